from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from haops.cli import compare as module
from haops.cli import main as entry
from haops.cluster.spec import StoreName
from haops.compare import sides as opening
from haops.control.journal import Journal, Outcome
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, ClusterUnhealthy, HaopsError
from haops.stores.compare import Record, Side
from haops.stores.plan import Operation

from ...compare_fakes import FakeSide, comparing, mend, text
from ...fakes import make_cluster
from .conftest import Run


@dataclass(frozen=True)
class FakeArchive:
    id: str
    store: StoreName = StoreName.REDIS


class Bench:
    """Clusters `old` and `new`, a backup `b1` of `old`, and the copies of `old`."""

    def __init__(self) -> None:
        self.old = FakeSide({b"a": text("1"), b"b": text("1")}, label="old")
        self.new = FakeSide({b"a": text("1"), b"b": text("1")}, label="new")
        self.backup = FakeSide({b"a": text("1"), b"b": text("1")}, label="backup:b1")
        self.copies = [FakeSide(dict(self.old.records), label=f"redis-{n}") for n in (1, 2, 3)]
        self.store = comparing({"old": self.old, "new": self.new, "b1": self.backup}, self.copies)


@pytest.fixture
def bench(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if "compare" not in {command.name for command in entry.app.registered_commands}:
        module.register(entry.app)
    made = Bench()
    for name in ("old", "new"):
        fake.state.save(make_cluster(name=name, owner=fake.state.owner()))
    fake.state.save(make_cluster("zookeeper", name="zk", owner=fake.state.owner()))

    def archive(_haops: Lifecycle, word: str, shelf: opening.Shelf) -> FakeArchive:
        if word not in ("b1", "latest", "old:latest"):
            raise BadInput(f"there is no backup {word!r} in {shelf.repository}")
        return FakeArchive("b1")

    monkeypatch.setattr(module, "lifecycle", lambda: fake)
    monkeypatch.setattr(opening, "_archive", archive)
    monkeypatch.setattr(opening, "load_comparing", lambda name: made.store)
    monkeypatch.setattr("haops.stores.load_comparing", lambda name: made.store)
    return made


QUICK = ("--pause", "1ms")


def failing(error: HaopsError):
    def fail(_: str) -> None:
        raise error

    return fail


# ---- compare


def test_equal_clusters_end_with_0_and_say_what_it_cost(run: Run, bench: Bench) -> None:
    ended = run("compare", "old", "new")
    assert ended.code == 0
    assert "old ↔ new: equal" in ended.out
    assert "records/s" in ended.out
    assert "bytes moved" in ended.out


def test_differences_end_with_1_and_are_listed_with_both_sides(run: Run, bench: Bench) -> None:
    bench.new.records = {b"b": text("2"), b"[c]": text("3", expires="99999999999999")}
    ended = run("compare", "old", "new", *QUICK)
    assert ended.code == 1
    assert ended.out.splitlines()[0].split() == ["KEY", "DIFFERENCE", "LEFT", "RIGHT"]
    assert [line.split() for line in ended.out.splitlines()[1:4]] == [
        ["[c]", "extra", "-", "3"],
        ["a", "missing", "1", "-"],
        ["b", "value", "1", "2"],
    ]
    assert "different; 1 missing; 1 extra; 1 value" in ended.out


def test_the_json_has_its_documented_shape(run: Run, bench: Bench) -> None:
    bench.new.records[b"b"] = text("2", expires="99999999999999")
    ended = run("compare", "old", "new", "-o", "json", *QUICK)
    document = json.loads(ended.out)
    assert ended.code == 1
    assert document.pop("seconds") >= 0
    assert document.pop("moved_bytes") > 0
    assert document == {
        "version": 1,
        "left": "old",
        "right": "new",
        "verdict": "different",
        "records": {"left": 2, "right": 2},
        "rounds": 3,
        "transient": 0,
        "elusive": 0,
        "unlisted": 0,
        "untold": 0,
        "trouble": None,
        "unsettled": [],
        "differences": [
            {
                "key": "b",
                "kinds": ["value", "expiry"],
                "left": {"type": "string", "value": "1", "preview": "1"},
                "right": {"type": "string", "value": "2", "preview": "2", "expires": "99999999999999"},
            }
        ],
    }


def test_names_are_the_keys_alone(run: Run, bench: Bench) -> None:
    bench.new.records = {}
    assert run("compare", "old", "new", "-o", "name", *QUICK).out == "a\nb\n"


def test_a_long_list_is_cut_in_the_table_and_whole_in_wide(run: Run, bench: Bench) -> None:
    bench.old.records = {b"key%03d" % n: text("1") for n in range(80)}
    bench.new.records = {}
    assert "... and 30 more: -o wide" in run("compare", "old", "new", *QUICK).out
    assert "key079" in run("compare", "old", "new", "-o", "wide", *QUICK).out
    assert "70 or more not listed" in run("compare", "old", "new", "--limit", "10", *QUICK).out


@pytest.mark.parametrize("word", ["backup:b1", "b1", "backup:latest", "backup:old:latest"])
def test_a_backup_is_compared_with_a_cluster(run: Run, bench: Bench, word: str) -> None:
    ended = run("compare", word, "old", "--repo", "/r")
    assert (ended.code, "backup:b1 ↔ old: equal" in ended.out) == (0, True)


def test_only_is_told_to_the_store(run: Run, bench: Bench) -> None:
    run("compare", "old", "new", "--only", "user:")
    assert "open user:" in bench.old.asked


@pytest.mark.parametrize("command", [("compare",), ("repair", "--truth", "A", "--dry-run")])
def test_a_part_that_neither_side_has_is_a_slip_and_no_success(
    run: Run, bench: Bench, command: tuple[str, ...]
) -> None:
    bench.old.records = bench.new.records = {}
    bench.store = replace(bench.store, picks="keys that begin with")
    ended = run(*command, "old", "new", "--only", "usr:")
    assert (ended.code, "neither old nor new has keys that begin with usr:" in ended.err) == (2, True)
    assert (ended.out, "no glob" in ended.err) == ("", True)
    assert run(*command, "old", "new").code == 0, "two clusters that are empty as a whole are equal"
    bench.new.records = {b"usr:1": text("1")}
    assert run("compare", "old", "new", "--only", "usr:", *QUICK).code == 1


def test_the_copies_of_a_cluster_are_each_compared_with_the_first(run: Run, bench: Bench) -> None:
    bench.copies[2].records = {}
    ended = run("compare", "old", "--replicas", "-o", "yaml", *QUICK)
    document = yaml.safe_load(ended.out)
    assert (ended.code, document["verdict"]) == (1, "different")
    assert [(c["right"], c["verdict"]) for c in document["comparisons"]] == [
        ("redis-2", "equal"),
        ("redis-3", "different"),
    ]


def test_a_cluster_with_one_copy_has_nothing_to_compare(run: Run, bench: Bench) -> None:
    del bench.copies[1:]
    ended = run("compare", "old", "--replicas")
    assert (ended.code, "one copy only" in ended.err) == (2, True)


def test_a_key_that_keeps_changing_ends_with_4(run: Run, bench: Bench) -> None:
    def count(question: str) -> None:
        if question == "describe":
            bench.new.records[b"a"] = text(f"{len(bench.new.asked)}")

    bench.new.records[b"a"] = text("x")
    bench.new.before = count
    ended = run("compare", "old", "new", *QUICK)
    assert ended.code == 4
    assert "(unsettled)" in ended.out
    assert "unknown; 1 unsettled" in ended.out


@pytest.mark.parametrize("error", [HaopsError("no answer"), ClusterUnhealthy("no answer")])
def test_a_side_that_cannot_be_read_ends_with_4_not_with_different(
    run: Run, bench: Bench, error: HaopsError
) -> None:
    bench.new.before = failing(error)
    ended = run("compare", "old", "new")
    assert (ended.code, "unknown: no answer" in ended.out) == (4, True)


def test_a_side_that_cannot_even_be_opened_ends_with_4(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def side(*_: object) -> Iterator[Side]:
        raise HaopsError("no answer")
        yield

    bench.store = replace(bench.store, side=side)
    ended = run("compare", "old", "new")
    assert (ended.code, "no answer" in ended.err) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "old"), "say what to compare with"),
        (("compare", "old", "new", "--replicas"), "two are named"),
        (("compare", "old", "--replicas", "--only", "x"), "--only is for two sides"),
        (("compare", "old", "zk"), "old is of redis, zk of zookeeper"),
        (("compare", "zk", "b1"), "zk is of zookeeper, backup:b1 of redis"),
        (("compare", "old", "old"), "compared with itself"),
        (("compare", "old", "nobody"), "neither a cluster nor a backup 'nobody'"),
        (("compare", "nobody", "--replicas"), "there is no cluster 'nobody'"),
        (("compare", "old", "backup:b9"), "there is no backup 'b9'"),
        (("compare", "old", "new", "--pause", "1"), "not a duration"),
        (("compare", "old", "new", "--rounds", "0"), "--rounds"),
        (("repair", "old", "new", "--yes"), "say which side is right"),
        (("repair", "old", "new", "--yes", "--truth", "C"), "neither A nor B"),
        (("repair", "old", "b1", "--yes", "--truth", "A"), "a backup cannot be changed"),
        (("repair", "old", "new", "--truth", "A"), "no terminal to ask at"),
        (("repair", "old", "--replicas", "--truth", "redis-9", "--yes"), "redis-9"),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_read(
    run: Run, bench: Bench, arguments: tuple[str, ...], message: str
) -> None:
    ended = run(*arguments)
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert bench.old.asked == []


# ---- repair


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(run: Run, bench: Bench) -> None:
    bench.new.records = {b"b": text("2"), b"c": text("3")}
    ended = run("repair", "old", "new", "--truth", "A", "--dry-run", *QUICK)
    assert ended.code == 0
    assert "new made like old: 2 keys to write, 1 to delete" in ended.out
    assert bench.new.records == {b"b": text("2"), b"c": text("3")}
    shape = json.loads(run("repair", "old", "new", "--truth", "A", "--dry-run", "-o", "json", *QUICK).out)
    assert (shape["write"], shape["delete"], shape["target"]) == (["a", "b"], ["c"], "new")


@pytest.mark.parametrize("truth", ["A", "b"])
def test_repair_makes_the_other_side_equal_and_compares_again(run: Run, bench: Bench, truth: str) -> None:
    bench.new.records = {b"b": text("2"), b"c": text("3")}
    right = dict(bench.old.records if truth == "A" else bench.new.records)
    ended = run("repair", "old", "new", "--truth", truth, "--yes", *QUICK)
    assert ended.code == 0
    assert bench.old.records == bench.new.records == right
    assert "3 keys repaired" in ended.err
    assert "old ↔ new: equal" in ended.out


def test_what_was_written_and_deleted_is_told_apart(run: Run, bench: Bench) -> None:
    changed = {b"b": text("2"), b"c": text("3")}
    bench.new.records = dict(changed)
    ended = run("repair", "old", "new", "--truth", "A", "--yes", *QUICK)
    assert "3 keys repaired: 2 written, 1 deleted" in ended.err
    bench.new.records = dict(changed)
    document = json.loads(run("repair", "old", "new", "--truth", "A", "--yes", "-o", "json", *QUICK).out)
    assert (document["repaired"], document["written"], document["deleted"]) == (3, 2, 1)


def test_a_repair_is_in_the_journal_with_its_reason_and_what_came_of_it(
    run: Run, bench: Bench, fake: Lifecycle
) -> None:
    bench.new.records = {b"b": text("2"), b"c": text("3")}
    run("repair", "old", "new", "--truth", "A", "--dry-run", *QUICK)
    assert Journal(fake.state.cluster_dir("new")).read() == ()
    run("repair", "old", "new", "--truth", "A", "--yes", "--reason", "after the split", "--only", "p", *QUICK)
    (record,) = Journal(fake.state.cluster_dir("new")).read()
    assert (record.plan.operation, record.reason) == (Operation.REPAIR, "after the split")
    assert record.plan.steps[0].text == "make new like old under p"
    assert (record.outcome, record.note) == (Outcome.DONE, "2 written, 1 deleted; compared again: equal")
    bench.copies[1].records = {}
    run("repair", "old", "--replicas", "--yes", *QUICK)
    (record,) = Journal(fake.state.cluster_dir("old")).read()
    assert (record.reason, record.plan.steps[0].text) == (
        "asked for at the prompt",
        "make redis-2 like redis-1",
    )
    assert (record.outcome, record.note) == (Outcome.DONE, "compared again: redis-2 equal, redis-3 equal")


@pytest.mark.parametrize(
    ("error", "code", "told", "note"),
    [
        (
            KeyboardInterrupt(),
            130,
            "interrupted: 2 keys are done; the same command goes on",
            "1 written, 1 deleted; interrupted",
        ),
        (HaopsError("READONLY"), 1, "READONLY", "1 written, 1 deleted; READONLY"),
    ],
)
def test_a_repair_that_ends_early_says_how_far_it_is_here_and_in_the_journal(
    run: Run, bench: Bench, fake: Lifecycle, error: BaseException, code: int, told: str, note: str
) -> None:
    def some(truth: Side, target: Side, keys: Sequence[bytes]) -> Iterator[int]:
        mended = mend(truth, target, keys)
        yield next(mended)
        if len(keys) > 1:
            raise error

    bench.new.records = {b"c": text("3")}
    bench.store = replace(bench.store, mend=some)
    ended = run("repair", "old", "new", "--truth", "A", "--yes", *QUICK)
    assert (ended.code, told in ended.err) == (code, True), ended.err
    (record,) = Journal(fake.state.cluster_dir("new")).read()
    assert (record.outcome, record.note) == (Outcome.FAILED, note)


def test_the_limit_is_for_what_is_listed_and_not_for_the_work_of_a_pass(run: Run, bench: Bench) -> None:
    bench.old.records = {b"key%03d" % n: text("1") for n in range(80)}
    bench.new.records = {}
    bench.new.before = lambda _: [bench.new.records.pop(b"key%03d" % n, None) for n in range(30)] and None
    arguments = ("repair", "old", "new", "--truth", "A", "--limit", "10", *QUICK)
    planned = json.loads(run(*arguments, "--dry-run", "-o", "json").out)
    assert (len(planned["write"]), planned["unlisted"]) == (10, 70)
    document = json.loads(run(*arguments, "--yes", "-o", "json").out)
    assert (document["passes"], document["repaired"]) == (1, 80)
    assert (len(document["after"]["differences"]), document["after"]["unlisted"]) == (10, 20)


def test_what_cannot_be_made_equal_is_told_and_the_rest_is_repaired(run: Run, bench: Bench) -> None:
    def barred(wanted: Record | None, has: Record | None) -> str:
        return "what is sealed stays" if has and has.value == "sealed" else ""

    bench.store = replace(bench.store, barred=barred)
    bench.new.records = {b"[a]": text("sealed")}
    arguments = ("repair", "old", "new", "--truth", "A", *QUICK)
    told = "1 key cannot be made equal, for what is sealed stays: [a]"
    dry = run(*arguments, "--dry-run")
    assert "2 keys to write, 0 to delete" in dry.out
    assert (dry.code, told in dry.out) == (0, True)
    ended = run(*arguments, "--yes")
    assert (ended.code, told in ended.out) == (1, True)
    assert "2 keys repaired" in ended.err
    again = run(*arguments, "--yes", "-o", "json")
    assert (again.code, json.loads(again.out)["cannot"]) == (
        1,
        [{"key": "[a]", "why": "what is sealed stays"}],
    )
    assert b"[a]" in bench.new.records


def test_a_cluster_is_repaired_from_a_backup(run: Run, bench: Bench) -> None:
    bench.old.records = {}
    ended = run("repair", "backup:b1", "old", "--truth", "A", "--yes", "-o", "json", *QUICK)
    assert (ended.code, json.loads(ended.out)["repaired"]) == (0, 2)
    assert bench.old.records == bench.backup.records


def test_a_repair_that_did_not_help_ends_with_1(run: Run, bench: Bench) -> None:
    bench.new.before = lambda _: bench.new.records.pop(b"a", None)
    assert run("repair", "old", "new", "--truth", "A", "--yes", *QUICK).code == 1


def test_nothing_is_written_when_a_side_cannot_be_read(run: Run, bench: Bench) -> None:
    bench.new.records = {}
    bench.old.before = failing(HaopsError("no answer"))
    ended = run("repair", "old", "new", "--truth", "A", "--yes", *QUICK)
    assert (ended.code, bench.new.records) == (4, {})


def test_a_cluster_somebody_else_works_on_is_not_repaired(run: Run, bench: Bench, fake: Lifecycle) -> None:
    bench.new.records = {}
    with fake.state.lock("new", "upgrade"):
        ended = run("repair", "old", "new", "--truth", "A", "--yes", *QUICK)
        assert run("repair", "old", "new", "--truth", "A", "--dry-run", *QUICK).code == 0
    assert (ended.code, "another haops is at work on new" in ended.err) == (1, True)
    assert bench.new.records == {}


def test_copies_are_repaired_from_the_first_or_from_the_named_node(
    run: Run, bench: Bench, fake: Lifecycle
) -> None:
    bench.copies[1].records = {b"z": text("9")}
    dry = run("repair", "old", "--replicas", "--dry-run", *QUICK)
    assert (dry.code, "would make redis-2 like redis-1" in dry.err) == (0, True)
    assert run("repair", "old", "--replicas", "--yes", *QUICK).code == 0
    assert bench.copies[1].records == bench.copies[0].records
    bench.copies[1].records = {b"z": text("9")}
    assert run("repair", "old", "--replicas", "--truth", "redis-2", "--yes", *QUICK).code == 0
    assert {tuple(copy.records) for copy in bench.copies} == {(b"z",)}


def test_copies_that_are_no_nodes_have_no_truth_but_their_stores_own(run: Run, bench: Bench) -> None:
    for number, copy in enumerate(bench.copies, start=1):
        copy.label = f"copy {number}"
    bench.copies[1].records = {}
    refused = run("repair", "old", "--replicas", "--truth", "redis-1", "--yes", *QUICK)
    assert (refused.code, "none of them can be the truth" in refused.err) == (2, True)
    assert bench.copies[1].records == {}
    dry = run("repair", "old", "--replicas", "--dry-run", *QUICK)
    assert "would have old make its copies equal by its own repair" in dry.err
    assert run("repair", "old", "--replicas", "--yes", *QUICK).code == 0


def test_equal_copies_are_left_alone(run: Run, bench: Bench) -> None:
    ended = run("repair", "old", "--replicas", "--yes")
    assert ended.code == 0
    assert [copy.asked for copy in bench.copies] == [["survey"]] * 3


def test_a_word_is_looked_up_in_the_repository_named_or_the_default_one(
    fake: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAOPS_REPO", raising=False)
    for repository, shown in ((str(tmp_path / "r"), "r"), (None, "backups")):
        with pytest.raises(BadInput, match="neither a cluster nor a backup") as error:
            opening.find(fake, "b1", opening.Shelf(repository))
        assert f"/{shown}" in (error.value.detail or "")
