"""Giving back the settings that a process which died had borrowed from servers."""

from __future__ import annotations

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster
from haops.runtime.port import Runtime
from haops.stores import load_backing


def give_back_loans(cluster: Cluster, runtime: Runtime, loans: Loans) -> tuple[str, ...]:
    """Put every borrowed setting back. Returns the nodes that were touched.

    Raises:
        HaopsError: A server does not take its setting back; the loan stays on record.
    """
    open_loans = loans.open()
    if not open_loans:
        return ()
    give_back = load_backing(cluster.store).give_back
    for loan in open_loans:
        give_back(cluster, runtime, loan)
        loans.strike(loan)
    return tuple(loan.node for loan in open_loans)
