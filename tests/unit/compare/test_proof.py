"""The proof of a backup by a restore: when it is good, bad, or none at all, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from haops.backup.keys import Identities
from haops.backup.manifest import Shape
from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.compare import proof as module
from haops.compare.differences import Difference, Kind
from haops.compare.proof import Proof, prove
from haops.compare.rounds import Comparison
from haops.errors import HaopsError
from haops.stores.backup import NotRestorable

from ...compare_fakes import text
from ...fakes import make_cluster

SHAPE = Shape(nodes=3, observers=0, dcs=1, mode="sentinel")
EQUAL = {"records_left": 1000, "records_right": 1000}


class Machine:
    """A life cycle that makes clusters of nothing, and remembers them."""

    def __init__(self) -> None:
        self.standing: list[str] = []
        self.removed: list[str] = []
        self.nodes: dict[str, Any] = {}
        self.let_go: list[str] = []
        self.state = SimpleNamespace(names=lambda: self.standing)

    def up(self, spec: ClusterSpec) -> Cluster:
        self.standing.append(spec.name)
        return make_cluster(spec.store, name=spec.name)

    def down(self, name: str, *, keep_volumes: bool) -> None:
        assert not keep_volumes
        self.standing.remove(name)
        self.removed.append(name)


Proved = Callable[..., Proof]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def proved(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Proved:
    """A proof whose comparison finds what is given."""
    archive = SimpleNamespace(
        id="b1",
        store=StoreName.REDIS,
        facts=SimpleNamespace(nodes=machine.nodes),
        end_lease=machine.let_go.append,
    )
    kept = SimpleNamespace(begun=SimpleNamespace(shape=SHAPE))
    monkeypatch.setattr(module, "open_archive", lambda *_: archive)
    monkeypatch.setattr(module, "complete", lambda *_: kept)
    monkeypatch.setattr(module, "restore", lambda *_: SimpleNamespace(took_s=1.5))
    monkeypatch.setattr(module, "compare_copies", lambda *_: ())

    def run(refused: HaopsError | None = None, **found: Any) -> Proof:
        def compared(*_: object) -> Comparison:
            if refused:
                raise refused
            return Comparison("backup b1", "proof", **found)

        monkeypatch.setattr(module, "compare_with_backup", compared)
        repository = SimpleNamespace(label="here")
        return prove(machine, repository, "b1", Identities(()), lambda _: None)  # type: ignore[arg-type]

    return run


def test_a_restored_cluster_that_is_equal_proves_its_backup_good(proved: Proved, machine: Machine) -> None:
    found = proved(**EQUAL)
    assert (found.ok, found.records, found.differences, found.untold, found.words) == (True, 1000, 0, 0, ())
    assert (machine.standing, machine.removed) == ([], [found.cluster])


@pytest.mark.parametrize(("untold", "ok"), [(100, True), (101, None), (1000, None)])
def test_what_cannot_be_told_is_no_proof_above_a_small_share_and_always_said(
    proved: Proved, untold: int, ok: bool | None
) -> None:
    found = proved(**EQUAL, untold=untold)
    assert (found.ok, found.untold, found.differences) == (ok, untold, 0)
    (words,) = found.words
    assert words.startswith(f"{untold:,} records differ, but were written while the backup was made")


def test_records_that_changed_too_fast_are_no_proof_and_said(proved: Proved) -> None:
    found = proved(**EQUAL, elusive=3)
    assert (found.ok, found.words) == (None, ("3 records changed too fast to be looked at",))


def test_a_difference_proves_a_backup_bad_whatever_cannot_be_told(proved: Proved) -> None:
    wrong = Difference(b"k", (Kind.VALUE,), text("a"), text("b"))
    found = proved(**EQUAL, differences=(wrong,), untold=500)
    assert (found.ok, found.differences, found.untold) == (False, 1, 500)
    assert found.words[0].startswith("500 records")
    assert found.words[1] == "k: value"


@pytest.mark.parametrize("found", [{}, {**EQUAL, "trouble": "redis-1 is gone"}])
def test_nothing_to_compare_and_trouble_are_no_proof(proved: Proved, found: dict[str, Any]) -> None:
    assert proved(**found).ok is None


def apart(count: int) -> tuple[Comparison, ...]:
    """Two copies that differ from the first in the same records."""
    wrong = tuple(Difference(b"%d" % n, (Kind.MISSING,), text("a"), None) for n in range(count))
    return tuple(Comparison("copy 1", f"copy {n}", 1000, 1000, differences=wrong) for n in (2, 3))


def test_copies_that_differ_prove_a_backup_of_one_server_bad_though_the_whole_is_equal(
    proved: Proved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compare_copies", lambda *_: apart(1))
    found = proved(**EQUAL)
    assert (found.ok, found.differences, found.words) == (False, 2, ("0: missing", "0: missing"))
    assert proved(refused=NotRestorable("it has files only")).ok is False


@pytest.mark.parametrize(("count", "ok"), [(0, True), (100, True), (101, None)])
def test_copies_of_snapshots_that_are_not_of_one_moment_may_differ_a_little_and_it_is_said(
    proved: Proved, machine: Machine, monkeypatch: pytest.MonkeyPatch, count: int, ok: bool | None
) -> None:
    machine.nodes.update(one={}, two={})
    monkeypatch.setattr(module, "compare_copies", lambda *_: apart(count))
    found = proved(**EQUAL)
    assert (found.ok, found.differences) == (ok, 0)
    assert [w.startswith(f"{count} records are not the same in all copies") for w in found.words] == (
        [True] if count else []
    )
    without = proved(refused=NotRestorable("it has files only"))
    assert (without.ok, without.differences) == (None, 0)


def test_copies_that_cannot_be_read_leave_it_open(proved: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = (Comparison("copy 1", "copy 2", trouble="redis-2 is gone"),)
    monkeypatch.setattr(module, "compare_copies", lambda *_: copies)
    found = proved(**EQUAL)
    assert (found.ok, found.words) == (None, ("redis-2 is gone",))


def test_copies_that_are_equal_prove_nothing_of_a_backup_without_a_form_to_compare(
    proved: Proved, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = (Comparison("redis-1", "redis-2", records_left=9, records_right=9),)
    monkeypatch.setattr(module, "compare_copies", lambda *_: copies)
    found = proved(refused=NotRestorable("it has files only"))
    assert (found.ok, found.words) == (None, ("compared only copy with copy: it has files only",))


def test_the_cluster_goes_even_if_the_restore_comes_to_nothing(
    proved: Proved, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise HaopsError("refused")

    monkeypatch.setattr(module, "restore", fail)
    with pytest.raises(HaopsError, match="refused"):
        proved(**EQUAL)
    assert machine.standing == []
    (name,) = machine.removed
    assert [lessee.partition(".")[0] for lessee in machine.let_go] == [name]
