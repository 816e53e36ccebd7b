from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import haops
from haops.checkers.register import Verdict, check_register
from haops.history.record import NIL, History, Kind, Outcome

from .fake_store import Book, Mode, fake_register

RECORDED = Path(haops.__file__).parents[2] / "shared" / "histories"
HOUR = 3600.0
# kind, value, expected, sent, completed, outcome
Op = tuple[Kind, int, int, int, int, Outcome]


def history(ops: Sequence[Op], key: int = 1) -> History:
    book = Book()
    for process, (kind, value, expected, sent, completed, outcome) in enumerate(ops):
        book.add(process, kind, key, value, sent, completed, outcome, expected=expected)
    return book.history()


def ok(kind: Kind, value: int, sent: int, completed: int, expected: int = NIL) -> Op:
    return kind, value, expected, sent, completed, Outcome.OK


@st.composite
def tiny(draw: st.DrawFn) -> list[Op]:
    values = st.integers(0, 2)
    ops = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([Kind.WRITE, Kind.READ, Kind.READ, Kind.CAS]))
        sent = draw(st.integers(0, 12))
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.INFO, Outcome.FAIL]))
        value = draw(st.one_of(values, st.just(NIL)) if kind is Kind.READ else values)
        expected = draw(values) if kind is Kind.CAS else NIL
        ops.append((kind, value, expected, sent, sent + draw(st.integers(1, 6)), outcome))
    return ops


def after(state: int, op: Op) -> int | None:
    """The register after an operation; None if it could not have been answered so."""
    kind, value, expected, _, _, outcome = op
    if kind is Kind.WRITE:
        return value
    if kind is Kind.READ:
        return state if state == value else None
    if outcome is Outcome.FAIL:
        return state if state != expected else None
    if state == expected:
        return value
    return state if outcome is Outcome.INFO else None


def explains(order: Sequence[Op], state: int) -> bool:
    now: int | None = state
    for i, op in enumerate(order):
        if any(later[5] is not Outcome.INFO and later[4] < op[3] for later in order[i + 1 :]):
            return False
        now = after(now, op)
        if now is None:
            return False
    return True


def by_force(ops: Sequence[Op], initial: int = NIL) -> bool:
    """Every order of every choice of the unknown operations."""
    telling = [
        op
        for op in ops
        if op[5] is Outcome.OK or op[0] is Kind.CAS or (op[0] is Kind.WRITE and op[5] is Outcome.INFO)
    ]
    sure = [op for op in telling if op[5] is not Outcome.INFO]
    unknown = [op for op in telling if op[5] is Outcome.INFO]
    chosen = chain.from_iterable(combinations(unknown, n) for n in range(len(unknown) + 1))
    return any(explains(order, initial) for some in chosen for order in permutations([*sure, *some]))


@settings(max_examples=400, deadline=None)
@given(tiny())
def test_the_search_agrees_with_trying_every_order(ops: list[Op]) -> None:
    wanted = Verdict.LINEARIZABLE if by_force(ops) else Verdict.VIOLATED
    assert check_register(history(ops)).verdict is wanted


@settings(max_examples=100, deadline=None)
@given(tiny())
def test_a_window_cannot_be_ordered_from_anything_the_register_may_have_held(ops: list[Op]) -> None:
    seen = history(ops)
    result = check_register(seen)
    assume(result.verdict is Verdict.VIOLATED)
    (finding,) = result.findings
    rows = [o.row for o in finding.window]
    assert rows
    # What is not in it and was sent by then is from before it.
    last = max(o.sent for o in finding.window)
    inside = np.isin(np.arange(len(seen)), rows)
    puts = np.isin(seen.kind, [Kind.WRITE, Kind.CAS]) & (seen.value != seen.expected)
    before = seen.select(~inside & (seen.sent <= last) & puts)
    for initial in {NIL, *before.select(before.outcome != Outcome.FAIL).value.tolist()}:
        assert check_register(seen.select(inside), initial=initial).verdict is Verdict.VIOLATED


def test_a_correct_register_is_never_blamed() -> None:
    for seed in range(1000):
        assert check_register(fake_register(seed, Mode.CORRECT).history).verdict is Verdict.LINEARIZABLE, seed


@pytest.mark.parametrize("mode", [Mode.STALE, Mode.LOSING])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_faulty_register_is_caught_whenever_a_read_could_show_it(mode: Mode, seed: int) -> None:
    run = fake_register(seed, mode)
    assume(run.visible)
    assert check_register(run.history).verdict is Verdict.VIOLATED


def test_a_stale_read_is_shown_with_the_few_operations_around_it() -> None:
    ops = [
        ok(Kind.WRITE if i % 2 else Kind.READ, i if i % 2 else i - 1, 10 * i, 10 * i + 5)
        for i in range(3, 400)
    ]
    ops[0] = ok(Kind.WRITE, 3, 30, 35)
    stale = ok(Kind.READ, 199, 2016, 2018)
    (finding,) = check_register(history([*ops, stale])).findings
    assert [(o.kind, o.value) for o in finding.window] == [(Kind.WRITE, 201), (Kind.READ, 199)]
    assert (finding.window[1].sent, finding.window[1].completed, finding.window[1].node) == (2016, 2018, "n1")
    assert "no order of 2 operations" in finding.sentence
    assert "read 199 at n1" in finding.sentence


def test_a_value_that_nobody_wrote_is_a_window_of_one() -> None:
    ops = [
        ok(Kind.WRITE, 1, 0, 5),
        ok(Kind.READ, 1, 10, 15),
        ok(Kind.READ, 77, 20, 25),
        ok(Kind.READ, 1, 30, 35),
    ]
    (finding,) = check_register(history(ops)).findings
    assert [o.value for o in finding.window] == [77]


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        ((Kind.WRITE, 2, NIL, 10, 12, Outcome.INFO), Verdict.LINEARIZABLE),
        ((Kind.WRITE, 2, NIL, 10, 12, Outcome.FAIL), Verdict.VIOLATED),
        ((Kind.CAS, 2, 1, 10, 12, Outcome.INFO), Verdict.LINEARIZABLE),
        ((Kind.CAS, 2, 9, 10, 12, Outcome.INFO), Verdict.VIOLATED),
        ((Kind.CAS, 2, 1, 10, 12, Outcome.FAIL), Verdict.VIOLATED),
        ((Kind.WRITE, 2, NIL, 40, 42, Outcome.INFO), Verdict.VIOLATED),
    ],
)
def test_an_unknown_operation_may_take_effect_any_time_after_it_was_sent(
    middle: Op, verdict: Verdict
) -> None:
    ops = [ok(Kind.WRITE, 1, 0, 5), middle, ok(Kind.READ, 1, 20, 22), ok(Kind.READ, 2, 30, 32)]
    assert check_register(history(ops)).verdict is verdict


def test_a_failed_swap_has_compared_unless_an_error_kept_it_from_that() -> None:
    for error, verdict in (("", Verdict.VIOLATED), ("ReadOnlyError", Verdict.LINEARIZABLE)):
        book = Book()
        book.add(0, Kind.WRITE, 1, 5, 0, 1)
        book.add(1, Kind.CAS, 1, 6, 2, 3, Outcome.FAIL, expected=5, error=error)
        assert check_register(book.history()).verdict is verdict


def test_reads_without_an_answer_tell_nothing() -> None:
    for outcome in (Outcome.FAIL, Outcome.INFO):
        ops = [ok(Kind.WRITE, 1, 0, 5), (Kind.READ, 9, NIL, 10, 12, outcome)]
        assert check_register(history(ops)).verdict is Verdict.LINEARIZABLE


def test_keys_are_judged_apart_and_only_the_broken_one_is_named() -> None:
    book = Book()
    for key in range(1, 6):
        book.add(key, Kind.WRITE, key, 10 * key, 0, 1)
        book.add(key, Kind.READ, key, 10 * key if key != 3 else NIL, 2, 3)
    result = check_register(book.history())
    assert (result.verdict, result.keys, result.operations) == (Verdict.VIOLATED, 5, 10)
    assert [f.key for f in result.findings] == [3]


def test_what_the_register_held_first_is_given() -> None:
    read = history([ok(Kind.READ, 4, 0, 1)])
    assert check_register(read).verdict is Verdict.VIOLATED
    assert check_register(read, initial=4).verdict is Verdict.LINEARIZABLE


def test_past_the_deadline_the_verdict_is_unknown_and_says_so() -> None:
    moments = iter([0.0, 5.0, 11.0, 11.0, 11.0])
    result = check_register(history([ok(Kind.READ, NIL, 0, 1)]), deadline_s=4, clock=lambda: next(moments))
    assert result.verdict is Verdict.UNKNOWN
    assert "gave up at the time limit" in result.findings[0].sentence


def knot() -> History:
    """Writes of few values, all concurrent, and reads after them that no order explains."""
    book = Book()
    for i in range(16):
        book.add(i, Kind.WRITE, 1, i % 4, 0, 2000)
        book.add(50 + i, Kind.READ, 1, (i * 7) % 4, 10, 1990 + i)
        book.add(80 + i, Kind.CAS, 1, (i * 3) % 4, 10, 1990, Outcome.OK, expected=(i + 1) % 4)
    for i in range(3):
        book.add(99, Kind.READ, 1, i % 2, 3000 + 10 * i, 3005 + 10 * i)
    return book.history()


def test_past_its_memory_the_verdict_is_unknown_and_says_so() -> None:
    result = check_register(knot(), deadline_s=HOUR, max_states=2000)
    assert result.verdict is Verdict.UNKNOWN
    assert "configurations" in result.findings[0].sentence


def test_an_empty_history_is_linearizable() -> None:
    assert check_register(history([])).verdict is Verdict.LINEARIZABLE


def recorded(path: Path) -> History:
    """A log of Jepsen's; a line is a moment."""
    book, open_ops = Book(), dict[int, tuple[Kind, int, int, int]]()
    kinds = {":read": Kind.READ, ":write": Kind.WRITE, ":cas": Kind.CAS}
    lines = path.read_text(encoding="utf-8").splitlines()
    for now, line in enumerate(lines):
        process_text, phase, kind, text = line.split(" - ", 1)[1].split("\t")
        process = int(process_text)
        if phase == ":invoke":
            numbers = [int(n) for n in text.strip("[]").split() if n != "nil"]
            expected = numbers[0] if len(numbers) == 2 else NIL
            open_ops[process] = (kinds[kind], numbers[-1] if numbers else NIL, expected, now)
            continue
        what, value, expected, sent = open_ops.pop(process)
        outcome = {":ok": Outcome.OK, ":fail": Outcome.FAIL, ":info": Outcome.INFO}[phase]
        if what is Kind.READ and outcome is Outcome.OK:
            value = NIL if text == "nil" else int(text)
        book.add(process, what, 1, value, sent, now, outcome, expected=expected)
    for process, (what, value, expected, sent) in open_ops.items():
        book.add(process, what, 1, value, sent, len(lines), Outcome.INFO, expected=expected)
    return book.history()


def test_recorded_histories_of_etcd_get_their_known_verdicts() -> None:
    if not RECORDED.is_dir():
        pytest.skip(f"waits for recorded histories in {RECORDED}")
    rows = [
        line.split("\t") for line in (RECORDED / "verdicts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    ]
    wanted = {name: Verdict.LINEARIZABLE if v == "true" else Verdict.VIOLATED for name, _, v in rows}
    assert {name: check_register(recorded(RECORDED / name)).verdict for name in wanted} == wanted
    assert len(wanted) == 50
