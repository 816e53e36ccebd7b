"""The lock drill: clients take turns at one lock, its store is broken, and the holders are counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Final

from haops.checkers.locks import Locks, check_locks
from haops.cluster.spec import Cluster
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, ClusterUnhealthy
from haops.faults.catalogue import DESCRIPTIONS, Breaker, FaultKind
from haops.faults.ledger import Ledger
from haops.history.record import NIL, History, Kind, Outcome, Recorder, merge
from haops.stores import load as load_store
from haops.stores.base import OperationFailed, OutcomeUnknown
from haops.stores.lock import LockClient, LockRecipe

CLIENTS: Final = 4
_PATIENCE_S: Final = 0.5
_STEADY_S: Final = 2.0
# Long enough for a failover, and for holders to meet around it.
_BROKEN_S: Final = 6.0
_AFTER_S: Final = 3.0
_LOCK: Final = 1
# How long a client keeps the lock, and how long one that did not get it waits; both random, seconds.
_HOLD_S: Final = (0.05, 0.6)
_WAIT_S: Final = (0.005, 0.03)


@dataclass(frozen=True, slots=True)
class LockRun:
    """What a lock drill found.

    Args:
        broken: The node.
        unknown: Tries of unknown outcome.
    """

    recipe: LockRecipe
    fault: FaultKind
    broken: str
    found: Locks
    unknown: int
    history: History


def recipe_of(cluster: Cluster) -> LockRecipe:
    """The lock of a cluster's store.

    Raises:
        BadInput: It has none.
    """
    recipe = load_store(cluster.store).lock
    if recipe is None:
        raise BadInput(f"there is no lock recipe for {cluster.store}", hint="allowed: redis, zookeeper")
    return recipe


def run_locks(
    haops: Lifecycle, cluster: Cluster, fault: FaultKind, run: str, seed: int, say: Callable[[str], None]
) -> LockRun:
    """Let clients compete, break the store in the middle, and judge who held the lock when.

    Raises:
        BadInput: The store has no lock recipe.
        ClusterUnhealthy: Not one lock was taken.
    """
    recipe = recipe_of(cluster)
    victim = load_store(cluster.store).primary(haops.observe(cluster))
    stop = threading.Event()
    recorders = [Recorder(number) for number in range(CLIENTS)]
    threads = []
    with ExitStack() as stack:
        for number, recorder in enumerate(recorders):
            client = recipe.client(cluster, run, number, _PATIENCE_S)
            stack.callback(client.close)
            how = client, recorder, Random(f"{seed}/{number}"), stop
            threads.append(threading.Thread(target=_compete, args=how, daemon=True))
        for thread in threads:
            stack.callback(thread.join, timeout=5)
            thread.start()
        stack.callback(stop.set)
        time.sleep(_STEADY_S)
        _break(haops, cluster, fault, victim, run, say)
        time.sleep(_AFTER_S)
    history = merge(recorder.export() for recorder in recorders)
    found = check_locks(history)
    if not found.acquisitions:
        raise ClusterUnhealthy(f"no client of {cluster.name} got the lock", hint="see: haops status")
    return LockRun(recipe, fault, victim, found, int((history.outcome == Outcome.INFO).sum()), history)


def _break(
    haops: Lifecycle, cluster: Cluster, fault: FaultKind, victim: str, run: str, say: Callable[[str], None]
) -> None:
    if fault is FaultKind.NONE:
        time.sleep(_BROKEN_S)
        return
    breaker = Breaker(haops.runtime, cluster, Ledger(haops.state.cluster_dir(cluster.name)), run)
    say(f"{cluster.name}: {victim}: {DESCRIPTIONS[fault].act}")
    with breaker.broken(fault, victim):
        time.sleep(_BROKEN_S)
    say(f"{cluster.name}: {victim}: {DESCRIPTIONS[fault].undone}")


def _compete(client: LockClient, recorder: Recorder, random: Random, stop: threading.Event) -> None:
    """Take the lock, keep it, give it back, again and again."""
    while not stop.is_set():
        if _acquire(client, recorder):
            stop.wait(random.uniform(*_HOLD_S))
            _release(client, recorder)
        stop.wait(random.uniform(*_WAIT_S))


def _acquire(client: LockClient, recorder: Recorder) -> bool:
    sent = time.monotonic_ns()
    try:
        taken = client.acquire()
    except (OperationFailed, OutcomeUnknown) as error:
        outcome = Outcome.FAIL if isinstance(error, OperationFailed) else Outcome.INFO
        now = time.monotonic_ns()
        recorder.record(Kind.ACQUIRE, _LOCK, NIL, sent, sent, now, outcome, client.node, str(error))
        return False
    now = time.monotonic_ns()
    value = NIL if not taken or client.token is None else client.token
    outcome = Outcome.OK if taken else Outcome.FAIL
    recorder.record(Kind.ACQUIRE, _LOCK, value, sent, sent, now, outcome, client.node)
    return taken


def _release(client: LockClient, recorder: Recorder) -> None:
    sent, outcome, error = time.monotonic_ns(), Outcome.OK, ""
    try:
        client.release()
    except OperationFailed as failure:
        outcome, error = Outcome.FAIL, str(failure)
    except OutcomeUnknown as failure:
        outcome, error = Outcome.INFO, str(failure)
    recorder.record(Kind.RELEASE, _LOCK, NIL, sent, sent, time.monotonic_ns(), outcome, client.node, error)
