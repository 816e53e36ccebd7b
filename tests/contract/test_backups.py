"""What every store's backup and comparison have in common, without a server."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.errors import BadInput, HaopsError
from haops.stores import load_backing, load_comparing
from haops.stores.backup import (
    Backing,
    BackupTools,
    BackupWish,
    Facts,
    NotRestorable,
    Part,
    RestoreWish,
)
from haops.stores.compare import Comparing, readable
from haops.stores.redis.digest import name_of

from ..fakes import FakeRuntime, held_ports, make_cluster


@dataclass
class Empty:
    """A backup of the store with nothing in it."""

    store: StoreName
    facts: Facts
    id: str = "20260101T000000Z-x"
    parts: tuple[Part, ...] = ()
    asked: list[str] = field(default_factory=list)

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        self.asked.append(name)
        return iter(())


@pytest.fixture(params=list(StoreName), ids=str)
def store(request: pytest.FixtureRequest) -> StoreName:
    return StoreName(request.param)


@pytest.fixture
def silent(store: StoreName) -> Iterator[Cluster]:
    """A cluster whose ports refuse."""
    with held_ports(2 * len(make_cluster(store).nodes)) as ports:
        yield make_cluster(store, ports=ports)


@pytest.fixture
def tools(tmp_path: Path) -> BackupTools:
    return BackupTools(FakeRuntime(), Loans(tmp_path))


def test_a_store_offers_backup_and_comparison(store: StoreName) -> None:
    assert isinstance(load_backing(store), Backing)
    assert isinstance(load_comparing(store), Comparing)


def test_a_backup_of_servers_that_do_not_answer_is_refused_with_a_hint_and_borrows_nothing(
    silent: Cluster, tools: BackupTools
) -> None:
    opened = load_backing(silent.store).source(silent, tools, BackupWish("20260101T000000Z-x"))
    with pytest.raises(HaopsError) as caught, opened as source:
        for part in source.parts():
            for _ in source.read(part):
                pass
    assert caught.value.hint or caught.value.detail
    assert tools.loans.open() == ()


def nothing(store: StoreName) -> Empty:
    return Empty(store, Facts("1.0.0", "nowhere", datetime(2026, 1, 1, tzinfo=UTC)))


def test_a_backup_without_its_parts_is_refused_before_anything_is_touched(
    silent: Cluster, tools: BackupTools
) -> None:
    opened = load_backing(silent.store).restorer(silent, tools, nothing(silent.store), RestoreWish())
    with pytest.raises(HaopsError) as caught, opened as restorer:
        restorer.in_the_way()
    assert caught.value.message
    assert tools.loans.open() == ()


def test_a_moment_that_the_backup_does_not_know_is_refused(silent: Cluster, tools: BackupTools) -> None:
    wish = RestoreWish(at=datetime(2025, 1, 1, tzinfo=UTC))
    opened = load_backing(silent.store).restorer(silent, tools, nothing(silent.store), wish)
    with pytest.raises(NotRestorable), opened as restorer:
        restorer.stages()


@pytest.mark.parametrize("only", ["", "no such form \0"])
def test_a_part_that_cannot_be_meant_is_bad_input_or_nothing(store: StoreName, only: str) -> None:
    archive = Empty(store, Facts("1.0.0", "nowhere", datetime(2026, 1, 1, tzinfo=UTC)))
    try:
        with load_comparing(store).of_backup(archive, only) as side:
            side.survey()
    except BadInput as error:
        assert error.message
    except HaopsError as error:
        assert error.exit_code in (1, 2)


@given(key=st.binary(max_size=60))
def test_others_bytes_are_shown_on_one_line_that_no_terminal_obeys(key: bytes) -> None:
    assert readable(key).isprintable()
    assert load_comparing(StoreName.REDIS).show(name_of(3, key)).isprintable()


def test_the_three_stores_have_the_same_files_for_it() -> None:
    for module in ("backup", "restore", "compare"):
        for name in StoreName:
            path = Path(inspect.getfile(type(load_backing(name)))).parent / name.value / f"{module}.py"
            assert path.is_file()
