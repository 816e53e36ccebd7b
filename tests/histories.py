"""Hand-made histories of drills."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from haops.history.record import History, Kind, Outcome, Recorder, merge

MS = 1_000_000
# process, kind, key, value, intended, sent, completed, outcome, node, error
Row = tuple[int, Kind, int, int, int, int, int, Outcome, str, str]

ERRORS = ("TimeoutError", "ConnectionError", "ReadOnlyError")


def op(
    at_ms: float,
    *,
    took_ms: float = 1,
    client: int = 0,
    kind: Kind = Kind.WRITE,
    key: int = 0,
    value: int | None = None,
    intended_ms: float | None = None,
    outcome: Outcome = Outcome.OK,
    node: str = "",
    error: str = "",
) -> Row:
    """An operation sent at a moment; it writes or finds its own key where no value is given."""
    sent = round(at_ms * MS)
    intended = sent if intended_ms is None else round(intended_ms * MS)
    found = key if value is None else value
    return client, kind, key, found, intended, sent, sent + round(took_ms * MS), outcome, node, error


def history(*rows: Row) -> History:
    """A history of these operations, as clients would have recorded it."""
    recorders: dict[int, Recorder] = {}
    for client, *rest in rows:
        recorders.setdefault(client, Recorder(client)).record(*rest)
    return merge(recorder.export() for recorder in recorders.values())


def rows_of(seen: History) -> list[Row]:
    """A history's rows, errors by name."""
    return [
        (
            int(seen.process[i]),
            Kind(seen.kind[i]),
            int(seen.key[i]),
            int(seen.value[i]),
            int(seen.intended[i]),
            int(seen.sent[i]),
            int(seen.completed[i]),
            Outcome(seen.outcome[i]),
            seen.nodes[seen.node[i]],
            seen.errors[seen.error[i]],
        )
        for i in range(len(seen))
    ]


@st.composite
def histories(draw: st.DrawFn, max_size: int = 40, span_ms: int = 5000) -> History:
    """Any history that could have been: operations are sent when due or later, and end after that."""
    rows: Sequence[tuple[int, Kind, int, int, int, Outcome, str]] = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from((Kind.WRITE, Kind.READ)),
                st.integers(0, span_ms),
                st.integers(0, 20),
                st.integers(0, 600),
                st.sampled_from(Outcome),
                st.sampled_from(ERRORS),
            ),
            max_size=max_size,
        )
    )
    return history(
        *(
            op(
                due + late,
                took_ms=took,
                client=client,
                kind=kind,
                key=number,
                intended_ms=due,
                outcome=outcome,
                error=error if outcome in (Outcome.FAIL, Outcome.INFO) else "",
            )
            for number, (client, kind, due, late, took, outcome, error) in enumerate(rows)
        )
    )
