"""The journal: what is read back of what was written, whole, cut off or spoilt."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.state import StateDir
from haops.control.journal import Entry, Journal, Outcome, Record, last_open, unfinished
from haops.errors import EnvironmentTrouble
from haops.stores.plan import Candidate, Operation, Plan, Step

STEPS = (
    Step("take-epoch", None, "win a new epoch"),
    Step("promote", "redis-2", "promote redis-2 → ünïcode"),
    Step("settle", None, "wait until all agree"),
)
PLAN = Plan("redis", Operation.SWITCHOVER, "redis-1", "redis-2", STEPS, "nothing is lost")
ENDS = (Outcome.DONE, Outcome.FAILED, Outcome.PUT_BACK, Outcome.MENDED, Outcome.VETOED)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "redis")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "redis" / "journal.jsonl"


def begin(journal: Journal, plan: Plan = PLAN) -> Entry:
    return journal.begin(plan, "ann@host", "a test")


def whole(journal: Journal, outcome: Outcome = Outcome.DONE, plan: Plan = PLAN) -> Entry:
    entry = begin(journal, plan)
    for step in plan.steps:
        entry.step(step)
        entry.did(1.234, f"{step.verb} was done")
    entry.end(outcome, "42 ms")
    return entry


def only(journal: Journal, *, busy: bool = False) -> Record:
    (record,) = journal.read(busy=busy)
    return record


# ---- round trip


@pytest.mark.parametrize("outcome", ENDS)
def test_an_operation_is_read_back_as_it_was_written(journal: Journal, outcome: Outcome) -> None:
    entry = whole(journal, outcome)
    record = only(journal)
    assert record.plan == PLAN
    assert (record.id, record.actor, record.reason) == (entry.id, "ann@host", "a test")
    assert (record.outcome, record.note, record.open) == (outcome, "42 ms", False)
    assert [(s.step, s.took_ms, s.outcome) for s in record.steps] == [
        (s, 1.23, f"{s.verb} was done") for s in STEPS
    ]
    assert record.at <= record.steps[0].at <= record.steps[-1].at <= str(record.ended)


def test_candidates_are_not_needed_to_mend_and_not_written(journal: Journal) -> None:
    whole(journal, plan=Plan("redis", Operation.RESTART, None, None, STEPS, "", (Candidate("redis-2"),)))
    assert only(journal).plan == Plan("redis", Operation.RESTART, None, None, STEPS, "")


def test_nothing_was_done_to_a_cluster_without_a_journal(journal: Journal) -> None:
    assert journal.read() == journal.cut_off() == ()


def test_operations_are_listed_oldest_first_with_ids_of_their_own(journal: Journal) -> None:
    ids = [whole(journal).id for _ in range(20)]
    assert [r.id for r in journal.read()] == ids
    assert len(set(ids)) == 20


# ---- an operation without an end


def test_what_has_no_end_was_cut_off_and_is_running_while_somebody_is_at_work(journal: Journal) -> None:
    entry = begin(journal)
    entry.step(STEPS[0])
    assert only(journal).outcome is Outcome.CUT_OFF
    assert only(journal, busy=True).outcome is Outcome.RUNNING
    assert only(journal).open
    assert only(journal, busy=True).open
    assert only(journal).ended is None
    assert [r.id for r in journal.cut_off()] == [entry.id]


def test_a_busy_cluster_does_not_reopen_what_has_ended(journal: Journal) -> None:
    whole(journal)
    assert only(journal, busy=True).outcome is Outcome.DONE
    assert journal.cut_off() == ()


def test_begun_holds_also_the_step_that_may_have_acted_or_not(journal: Journal) -> None:
    entry = begin(journal)
    assert only(journal).begun == ()
    entry.step(STEPS[0])
    entry.did(3.0, "won")
    entry.step(STEPS[1])
    record = only(journal)
    assert record.begun == STEPS[:2]
    assert [(s.took_ms, s.outcome) for s in record.steps] == [(3.0, "won"), (None, "")]


def test_closing_another_processes_entry_ends_that_one_alone(journal: Journal) -> None:
    left, other = begin(journal), begin(journal)
    journal.close(journal.read()[0], Outcome.MENDED, "put right")
    assert [(r.id, r.outcome) for r in journal.read()] == [
        (left.id, Outcome.MENDED),
        (other.id, Outcome.CUT_OFF),
    ]


def test_the_operation_cut_off_last_is_the_one_that_counts(journal: Journal) -> None:
    first = begin(journal)
    whole(journal)
    second = begin(journal)
    whole(journal)
    assert [r.id for r in journal.cut_off()] == [first.id, second.id]
    found = last_open(journal.read())
    assert found is not None and found.id == second.id
    assert last_open(()) is None


def test_an_operation_that_was_cut_off_is_told_in_a_sentence(journal: Journal) -> None:
    entry = begin(journal)
    assert unfinished(only(journal)) == (
        "a switchover from redis-1 to redis-2 by ann@host was cut off before its first step"
    )
    entry.step(STEPS[1])
    assert unfinished(only(journal)).endswith("was cut off at its step promote")


def test_a_sentence_of_an_operation_without_a_target_names_its_node_or_its_cluster(journal: Journal) -> None:
    begin(journal, Plan("redis", Operation.RESTART, "redis-3", None, STEPS, ""))
    begin(journal, Plan("redis", Operation.RESTART, None, None, STEPS, ""))
    one, all_of_it = map(unfinished, journal.read())
    assert one.startswith("a restart of redis-3 by")
    assert all_of_it.startswith("a restart of redis by")


# ---- append-only


def test_what_stands_in_the_file_is_never_changed(journal: Journal, file: Path) -> None:
    before = b""
    entry = begin(journal)
    for act in (
        lambda: entry.step(STEPS[0]),
        lambda: entry.did(1, "x"),
        lambda: entry.end(Outcome.FAILED, "x"),
        lambda: whole(journal),
        lambda: journal.close(only_first(journal), Outcome.MENDED, "x"),
        lambda: journal.read(),
    ):
        act()
        after = file.read_bytes()
        assert after.startswith(before)
        before = after


def only_first(journal: Journal) -> Record:
    return journal.read()[0]


def test_a_line_stands_in_the_file_when_the_call_returns_and_is_one_json_object(
    journal: Journal, file: Path
) -> None:
    entry = journal.begin(PLAN, "ann\nhost", 'a "reason"\nof two lines')
    entry.step(Step("x", None, "of\ntwo lines"))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["begin", "step"]
    assert only(journal).reason == 'a "reason"\nof two lines'


def test_a_journal_that_cannot_be_written_stops_the_operation_before_it_acts(tmp_path: Path) -> None:
    (tmp_path / "redis").write_text("a file where a folder should be")
    with pytest.raises(EnvironmentTrouble, match="cannot write"):
        begin(Journal(tmp_path / "redis"))


# ---- spoilt files

FOREIGN = [
    "",
    "not json",
    "[1, 2]",
    "null",
    "42",
    '"begin"',
    "{}",
    '{"event": "begin"}',
    '{"event": "begin", "id": "x"}',
    '{"event": "begin", "id": ["a list"]}',
    '{"event": "step", "id": "nobody", "verb": "x", "node": null, "text": "x", "at": "x"}',
    '{"event": "did", "id": "nobody", "took_ms": 1, "outcome": "x"}',
    '{"event": "end", "id": "nobody", "outcome": "done"}',
    '{"event": "end"}',
    '{"event": ["x"]}',
    '{"event": "begin", "id": "a", "at": "x", "actor": "x", "reason": "x", "cluster": "x",'
    ' "operation": "dance", "source": null, "target": null, "risk": "", "steps": []}',
    '{"event": "begin", "id": "b", "at": "x", "actor": "x", "reason": "x", "cluster": "x",'
    ' "operation": "restart", "source": null, "target": null, "risk": "", "steps": 3}',
    '{"event": "begin", "id": "c", "at": "x", "actor": "x", "reason": "x", "cluster": "x",'
    ' "operation": "restart", "source": null, "target": null, "risk": "", "steps": ["x"]}',
    "\x00\x00\x00",
    "\udcff\udcfe",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_a_foreign_line_is_passed_over(journal: Journal, file: Path, line: str) -> None:
    first = whole(journal)
    with file.open("ab") as out:
        out.write(line.encode(errors="surrogateescape") + b"\n")
    second = whole(journal)
    assert [(r.id, r.outcome) for r in journal.read()] == [
        (first.id, Outcome.DONE),
        (second.id, Outcome.DONE),
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "x", "id": ' + "1" * 5000 + "}",  # more digits than Python reads
        "[" * 200_000,  # deeper than Python follows
    ],
    ids=["a number too long", "too deep"],
)
def test_a_line_that_python_refuses_to_read_is_passed_over(journal: Journal, file: Path, line: str) -> None:
    entry = whole(journal)
    with file.open("a") as out:
        out.write(line + "\n")
    assert only(journal).id == entry.id


def test_a_time_beyond_all_numbers_is_passed_over(journal: Journal, file: Path) -> None:
    entry = begin(journal)
    entry.step(STEPS[0])
    with file.open("a") as out:
        line = {"event": "did", "id": entry.id, "took_ms": 10**400, "outcome": "x"}
        out.write(json.dumps(line) + "\n")
    assert only(journal).begun == STEPS[:1]


def test_a_last_line_that_was_cut_off_leaves_the_operation_as_far_as_it_was_written(
    journal: Journal, file: Path
) -> None:
    whole(journal)
    file.write_bytes(file.read_bytes()[:-5])
    record = only(journal)
    assert (record.outcome, record.begun) == (Outcome.CUT_OFF, STEPS)


def test_after_a_cut_line_the_next_operation_is_not_lost(journal: Journal, file: Path) -> None:
    first = begin(journal)
    first.step(STEPS[0])
    file.write_bytes(file.read_bytes()[:-5])  # a full disk took the rest
    second = begin(journal)
    second.step(STEPS[0])
    assert [(r.id, len(r.steps)) for r in journal.read()] == [(first.id, 0), (second.id, 1)]


def test_an_end_that_goes_onto_a_cut_line_still_closes_the_operation(journal: Journal, file: Path) -> None:
    begin(journal).step(STEPS[0])
    file.write_bytes(file.read_bytes()[:-5])
    journal.close(only(journal), Outcome.MENDED, "put right")
    assert only(journal).outcome is Outcome.MENDED


@given(st.randoms(use_true_random=False))
def test_lines_in_any_order_are_read_without_an_exception(rng: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        for _ in range(3):
            whole(journal)
        file = Path(folder) / "journal.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        rng.shuffle(lines)  # type: ignore[attr-defined]
        file.write_text("".join(lines), encoding="utf-8")
        assert len(journal.read()) == 3  # the beginnings are all there, wherever


# ---- any sequence of events, cut anywhere

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "step", "did", "end", "close", "foreign"]),
        st.integers(0, 3),
        st.text(max_size=12),
        st.sampled_from(ENDS),
        st.sampled_from(STEPS),
    ),
    max_size=25,
)


Event = tuple[str, int, str, Outcome, Step]


class Story:
    """Events played on a journal, and what must be read back of them."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.file = Journal(folder), folder / "journal.jsonl"
        self.file.touch()
        self.entries: list[Entry] = []
        self.began: dict[str, int] = {}  # where in the file that stands
        self.ended: dict[str, tuple[Outcome, int]] = {}
        self.begun: dict[str, list[Step]] = {}

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    def play(self, event: Event) -> None:
        kind, number, text, _, _ = event
        if kind == "begin":
            entry = self.journal.begin(PLAN, text, text)
            self.entries.append(entry)
            self.begun[entry.id], self.began[entry.id] = [], self.size
        elif kind == "foreign":
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"event": "end", "note": text, "outcome": 7}) + "\n")
        elif running := [e for e in self.entries if e.id not in self.ended]:
            self.go_on(running[number % len(running)], event)

    def go_on(self, entry: Entry, event: Event) -> None:
        kind, _, text, outcome, step = event
        if kind == "step":
            entry.step(step)
            self.begun[entry.id].append(step)
        elif kind == "did":
            entry.did(len(text), text)
        else:
            entry.end(outcome, text)
            self.ended[entry.id] = (outcome, self.size)


@given(EVENTS, st.floats(0, 1))
def test_whatever_was_written_and_wherever_it_is_cut_complete_operations_are_still_there(
    events: list[Event], share: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        for event in events:
            story.play(event)
        cut = round(share * story.size)
        story.file.write_bytes(story.file.read_bytes()[:cut])
        records = {r.id: r for r in story.journal.read()}
    whole = {identity: how for identity, (how, at) in story.ended.items() if at <= cut}
    assert {identity: records[identity].outcome for identity in whole} == whole
    assert all(list(records[identity].begun) == story.begun[identity] for identity in whole)
    assert {identity for identity, at in story.began.items() if at <= cut} <= records.keys()
    for identity, record in records.items():
        assert list(record.begun) == story.begun[identity][: len(record.begun)]


def test_a_cluster_that_goes_takes_its_journal_along(state: StateDir) -> None:
    journal = Journal(state.cluster_dir("redis"))
    whole(journal)
    state.forget("redis")
    assert journal.read() == ()
