"""Formulas of what a fault costs: until it is noticed, until somebody else serves, until all clients are back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import StoreName
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellTrial
from haops.matrix.prediction import (
    Evidence,
    Formula,
    Missing,
    Part,
    Prediction,
    Unit,
    better,
    figure,
    known,
    ratio,
)
from haops.matrix.summary import medians_of_parts

# playbooks/matrix/cell.yaml, load.timeout.
CLIENT_TIMEOUT_MS: Final = 500.0
_WATCHERS: Final = 3  # Sentinels, haops/stores/redis/topology.py
_BY_SERVERS: Final = ("detect", "decide", "promote", "advertise")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a store notices silence.

    Args:
        interval_ms: Between two signs of life.
        timeout_ms: Silence that is suffered.
        interval_where: Whose setting the interval is.
        timeout_where: Whose setting the time-out is.
        expected_ms: What a fault at a random moment should take.
        name: The better formula.
        why: Why the plain formula misses.
        better_why: Why the better one is closer.
    """

    interval_ms: float
    timeout_ms: float
    interval_where: str
    timeout_where: str
    expected_ms: float
    name: str
    why: str
    better_why: str


# Cassandra's phi is t / mean gap / ln 10, so phi 8 is reached after 8 x ln 10 = 18.4 mean gaps.
_PHI_MS: Final = 8 * math.log(10) * 1000.0

HEARTBEATS: Final[Mapping[StoreName, Heartbeat]] = {
    StoreName.REDIS: Heartbeat(
        1000.0, 1000.0,
        "Sentinel sends PING every 1 s",
        "down-after-milliseconds 1000, compose/redis/sentinel.conf.j2",
        1000.0 / (_WATCHERS + 1) + 1000.0,
        "T_hi / (m + 1) + T_ho",
        "The formula is the worst case, a freeze right after an answered PING; the time-out runs from the next "
        "PING, and of three Sentinels the first counts.",
        f"The first of m = {_WATCHERS} Sentinels whose PINGs fall at independent moments asks after T_hi / (m + 1).",
    ),
    StoreName.ZOOKEEPER: Heartbeat(
        250.0, 2500.0,
        "leader pings every half tick of 500 ms, compose/zookeeper/zoo.cfg.j2",
        "syncLimit 5 x tick 500 ms, compose/zookeeper/zoo.cfg.j2",
        2500.0 - 250.0 / 2,
        "T_ho - T_hi / 2",
        "Followers count the time-out from the last ping that they got, so the interval shortens the wait "
        "instead of adding to it.",
        "On average the last ping is half an interval old when the leader falls silent.",
    ),
    StoreName.CASSANDRA: Heartbeat(
        1000.0, _PHI_MS,
        "gossip every 1 s",
        "phi_convict_threshold 8: 8 x ln 10 mean gaps of 1 s, compose/cassandra/cassandra.yaml.j2",
        _PHI_MS - 1000.0 / 2,
        "T_ho - T_hi / 2",
        "Phi grows from the last heartbeat that was heard, and the mean gap that it divides by is measured, "
        "not configured; a connection that breaks is noticed apart from it.",
        "On average the last heartbeat is half an interval old when the node falls silent.",
    ),
}  # fmt: skip


def _detect(trial: CellTrial) -> float | None:
    return trial.write_recovery.detect_ms


def _promote(trial: CellTrial) -> float | None:
    return trial.write_recovery.promote_ms


def _reconnect(trial: CellTrial) -> float | None:
    return trial.write_recovery.reconnect_ms


def _total(trial: CellTrial) -> float | None:
    return trial.write_recovery.total_ms


def _all_back(trial: CellTrial) -> float | None:
    return trial.all_back_ms


def _by_servers(cell: Cell) -> float:
    """Detection to advertisement, as far as servers told, ms."""
    parts = medians_of_parts(cell)
    return sum(parts[name] or 0.0 for name in _BY_SERVERS)


def _sum_of(cell: Cell) -> tuple[float, str]:
    """All parts of a recovery that are known, ms, and their names."""
    parts = {name: value for name, value in medians_of_parts(cell).items() if value is not None}
    return sum(parts.values()), " + ".join(parts)


def _heartbeat(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    beat = HEARTBEATS[store]
    # A killed process closes its connections; only a frozen one has to be missed.
    cell = evidence.first(store, (FaultKind.PAUSE, FaultKind.KILL), (_detect,))
    whole = figure(cell, _detect, "a detection")
    predicted = beat.interval_ms + beat.timeout_ms
    why = beat.why
    if cell.key.fault is FaultKind.KILL:
        why = "Measured after a kill, whose broken connections are noticed at once, without any time-out."
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            cell.key.mode,
            cell.key.fault,
            (
                Part("T_hi", beat.interval_ms, Unit.MS, beat.interval_where),
                Part("T_ho", beat.timeout_ms, Unit.MS, beat.timeout_where),
            ),
            "until the first server's word that the node is gone",
            Unit.MS,
            predicted,
            whole,
            ratio(predicted, whole),
            why,
            better(beat.name, beat.expected_ms, whole, beat.better_why),
        )
    ]


def _timeout(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    cell = evidence.first(store, (FaultKind.PAUSE,), (_detect, _promote, _all_back))
    detect, promote = figure(cell, _detect, "a detection"), figure(cell, _promote, "a promotion")
    whole, predicted = figure(cell, _all_back, "all clients back"), CLIENT_TIMEOUT_MS + promote + detect
    served = _by_servers(cell)
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            cell.key.mode,
            cell.key.fault,
            (
                Part("T_r", CLIENT_TIMEOUT_MS, Unit.MS, "clients' patience, playbooks/matrix/cell.yaml"),
                Part("T_p", promote, Unit.MS, "promotion, pause"),
                Part("T_d", detect, Unit.MS, "detection, pause"),
            ),
            "until every client is back",
            Unit.MS,
            predicted,
            whole,
            ratio(predicted, whole),
            "Clients' time-outs run while the servers detect and promote, so T_r is not added from the start; and "
            "the choice of a successor and its advertisement are left out.",
            better(
                "detect + decide + promote + advertise + T_r / 2",
                served + CLIENT_TIMEOUT_MS / 2,
                whole,
                "After the advertisement a client is on average halfway through a time-out that it has to sit out.",
            ),
        )
    ]


def _failover(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    cell = evidence.first(store, (FaultKind.KILL,), (_promote, _reconnect, _total))
    promote, reconnect = figure(cell, _promote, "a promotion"), figure(cell, _reconnect, "a reconnection")
    whole, predicted = figure(cell, _total, "a recovery"), promote + reconnect
    total, names = _sum_of(cell)
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            cell.key.mode,
            cell.key.fault,
            (
                Part("T_p", promote, Unit.MS, "promotion, kill"),
                Part("T_r", reconnect, Unit.MS, "reconnection, kill"),
            ),
            "RTO of writes",
            Unit.MS,
            predicted,
            whole,
            ratio(predicted, whole),
            "The formula leaves out that the fault has to be noticed, and a successor chosen, before anybody can be "
            "promoted.",
            better(
                names,
                total,
                whole,
                "The parts follow one another; the sum of their medians need not be the median of the sums.",
            ),
        )
    ]


_TRANSFER_WHY: Final[Mapping[StoreName, str]] = {
    StoreName.REDIS: "Clients reconnect at the same time, not one after another, and the new primary takes "
    "connections faster than they come.",
    StoreName.ZOOKEEPER: "Clients reconnect at the same time, and only those whose session was at the dead server "
    "have to.",
    StoreName.CASSANDRA: "Clients hold connections to every node, and turn to another when one breaks: they neither "
    "connect anew nor wait for the servers' detection.",
}


def _load_transfer(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    cell = evidence.first(store, (FaultKind.KILL,), (_all_back,))
    parts = evidence.parts(store, cell.key.mode)
    connect = known(parts.connect_ms, f"a new client's connection in {cell.key.mode}").median
    whole, served = figure(cell, _all_back, "all clients back"), _by_servers(cell)
    if not served:
        raise Missing(f"no server told of a detection or a promotion in {cell.key}")
    predicted = parts.clients * connect + served
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            cell.key.mode,
            cell.key.fault,
            (
                Part("n", parts.clients, Unit.COUNT, "clients"),
                Part("T_p", connect, Unit.MS, "a new client's connection, idle cluster"),
                Part("T_d", served, Unit.MS, "detection to advertisement, kill"),
            ),
            "until every client is back",
            Unit.MS,
            predicted,
            whole,
            ratio(predicted, whole),
            _TRANSFER_WHY[store],
            better(
                "T_p + T_d", connect + served, whole, "All clients connect in parallel, each in its own T_p."
            ),
        )
    ]


FORMULAS: Final = (
    Formula(
        "T_h = T_hi + T_ho",
        "Heartbeat: T_hi is the interval of signs of life, T_ho the silence that is suffered.",
        _heartbeat,
    ),
    Formula(
        "T_t = T_r + T_p + T_d",
        "Time-out: T_r is the client's own time-out, T_p the promotion, T_d the detection.",
        _timeout,
    ),
    Formula(
        "T_s = T_p + T_r",
        "Failover: T_p is the promotion, T_r the clients' reconnection.",
        _failover,
    ),
    Formula(
        "T_t = n x T_p + T_d",
        "Load transfer: n clients, each connecting in T_p, after T_d, from detection to advertisement.",
        _load_transfer,
    ),
)
