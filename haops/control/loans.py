"""Giving back the settings that a process which died had borrowed from servers."""

from __future__ import annotations

from typing import Final

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster
from haops.errors import HaopsError
from haops.runtime.port import Runtime
from haops.stores import load_backing
from haops.wait import Clock

_UP_S: Final = 15.0
_AGAIN_S: Final = 0.5


def give_back_loans(cluster: Cluster, runtime: Runtime, loans: Loans) -> tuple[str, ...]:
    """Put every borrowed setting back, what was borrowed last first. Returns the nodes that were touched.

    Raises:
        HaopsError: A server does not take its setting back (the first that does not); its loan stays on
            record, all others have been given back.
    """
    open_loans = loans.open()
    if not open_loans:
        return ()
    give_back, troubles, touched = load_backing(cluster.store).give_back, list[HaopsError](), []
    for loan in reversed(open_loans):
        try:
            give_back(cluster, runtime, loan)
        except HaopsError as error:
            troubles.append(error)
        else:
            loans.strike(loan)
            touched.append(loan.node)
    if troubles:
        raise troubles[0]
    return tuple(touched)


def give_back_when_up(cluster: Cluster, runtime: Runtime, loans: Loans, clock: Clock) -> tuple[str, ...]:
    """The same for servers that were just started: one that does not answer yet is asked again for a while.

    Raises:
        HaopsError: As `give_back_loans`, after 15 s.
    """
    end, touched = clock.monotonic() + _UP_S, list[str]()
    while True:
        before = set(loans.open())
        try:
            return (*touched, *give_back_loans(cluster, runtime, loans))
        except HaopsError:
            touched += [loan.node for loan in before - set(loans.open())]
            if clock.monotonic() >= end:
                raise
            clock.sleep(_AGAIN_S)
