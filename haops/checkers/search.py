"""Whether operations on one register can be put in an order: the search behind `register`.

After Wing and Gong, with Lowe's list of calls and returns from which an operation
is lifted while it counts as done, and his memory of the configurations already
tried. Three things keep it short, each argued where it is done: operations that
change nothing are taken as soon as they fit, a value that is still to be read is
not overwritten for the last time, and an operation of unknown outcome is used only
where something sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

# Values are numbered from 0; this is "none" for what an operation sees or puts.
NOTHING: Final = -1
# The state before the first operation, when more than one is possible.
ANY: Final = -2
# The rank of an end that never came.
NEVER: Final = 1 << 62
_STEPS_A_LOOK: Final = 512


class Step(Enum):
    """What an operation does to the register."""

    READ = 0
    DIFFER = 1
    PUT = 2
    SWAP = 3


@dataclass(frozen=True, slots=True)
class Move:
    """One operation, with values and moments as small integers.

    Args:
        step: READ sees `sees`; DIFFER sees anything but `sees`; PUT puts `puts`; SWAP does both.
        sees: Number of a value, or NOTHING.
        puts: Number of a value, or NOTHING.
        call: Rank of its beginning among all beginnings and ends.
        back: Rank of its end; NEVER if its outcome is not known, so that it may never take effect.
    """

    step: Step
    sees: int
    puts: int
    call: int
    back: int


class GaveUp(Exception):
    """The search passed its limit of time or of memory."""


@dataclass(slots=True)
class Budget:
    """What a search may use.

    Args:
        until: Moment on `clock` at which it gives up.
        clock: In seconds.
        states: Configurations of one search that may be remembered.
    """

    until: float
    clock: Callable[[], float]
    states: int

    def check(self, remembered: int) -> None:
        """Raise GaveUp past a limit."""
        if remembered > self.states:
            raise GaveUp(f"gave up after {remembered:,} configurations")
        if self.clock() >= self.until:
            raise GaveUp("gave up at the time limit")


def orderable(moves: Sequence[Move], values: int, before: frozenset[int], budget: Budget) -> bool:
    """Whether some order of the moves respects their times and the register's meaning.

    Args:
        values: How many values are numbered.
        before: What the register may have held before the first move.
    """
    if len(before) == 1:
        return _Search(moves, values, min(before), before, budget).run()
    if not _Search(moves, values, ANY, before, budget).run():
        return False
    if not any(m.step is Step.DIFFER for m in moves):
        return True
    # An unknown beginning lets every DIFFER pass; that they may not contradict each other needs
    # each beginning's turn. Those that nobody asks for are all alike.
    seen = before & {m.sees for m in moves}
    return any(
        _Search(moves, values, first, before, budget).run() for first in seen | set(sorted(before - seen)[:1])
    )


class _Search:
    """One depth-first search; see the module."""

    def __init__(
        self, moves: Sequence[Move], values: int, state: int, before: frozenset[int], budget: Budget
    ) -> None:
        must = sorted((m for m in moves if m.back != NEVER), key=lambda m: m.call)
        may = [m for m in moves if m.back == NEVER and m.puts != NOTHING and m.puts != m.sees]
        self._budget = budget
        self._state = state
        self._before = before
        self._step = [m.step for m in must]
        self._sees = [m.sees for m in must]
        self._puts = [m.puts for m in must]
        self._back = [m.back for m in must]
        self._need = [0] * (values + 1)  # operations that still have to see a value
        self._makers = [0] * (values + 1)  # operations that could still put it
        self._hopes = [0] * (values + 1)  # swaps of unknown outcome that could still see it
        self._differ = sum(m.step is Step.DIFFER for m in must)
        for m in must:
            if m.step in (Step.READ, Step.SWAP):
                self._need[m.sees] += 1
            self._makers[m.puts] += 1
        self._group(may)
        self._link(must)
        self._trail: list[int] = []
        # Done operations as a bitset from the first one that is not done: `base`.
        self._base = 0
        self._bits = 0
        self._used_bits = 0

    def _group(self, may: Sequence[Move]) -> None:
        """Unknown operations that do the same, by when they began.

        None of a group ever ends, so the earliest can always stand for another:
        they are used in that order, and a configuration has only their number.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for m in sorted(may, key=lambda m: m.call):
            groups.setdefault((m.sees, m.puts), []).append(m.call)
            self._makers[m.puts] += 1
            self._hopes[m.sees] += m.sees != NOTHING
        self._groups = [(sees, puts, [*calls, NEVER]) for (sees, puts), calls in groups.items()]
        self._used = [0] * len(groups)
        width, self._shift = 0, []
        for calls in groups.values():
            self._shift.append(width)
            width += len(calls).bit_length()

    def _link(self, must: Sequence[Move]) -> None:
        """The ring of calls (2i) and returns (2i + 1) in order of time, closed by a head."""
        self._head = head = 2 * len(must)
        ranks = [rank for m in must for rank in (m.call, m.back)]
        ring = [*sorted(range(head), key=ranks.__getitem__), head]
        self._next, self._last = [head] * (head + 1), [head] * (head + 1)
        for left, right in zip(ring, [*ring[1:], ring[0]], strict=True):
            self._next[left], self._last[right] = right, left

    def run(self) -> bool:
        """Search until every move that has to be done is done."""
        need, makers = self._need, self._makers
        if self._state != ANY and any(
            need[v] and not makers[v] for v in range(len(need) - 1) if v != self._state
        ):
            return False
        frames: list[tuple[list[int], int, int, int, int, int]] = []
        tried: set[tuple[int, int, int, int, bool]] = set()
        unseen, steps = False, 0
        while True:
            limit, took = self._settle()
            first = self._next[self._head]
            if first == self._head:
                return True
            self._slide(first >> 1)
            unseen = unseen and not took
            here = (self._base, self._bits, self._used_bits, self._state, unseen)
            choices: list[int] = []
            if here not in tried:
                tried.add(here)
                choices = self._choices(limit, unseen=unseen)
            while not choices:
                if not frames:
                    return False
                choices, mark, self._state, self._base, self._bits, self._used_bits = frames.pop()
                self._undo(mark)
            choice = choices.pop()
            frames.append((choices, len(self._trail), self._state, self._base, self._bits, self._used_bits))
            unseen = self._do(choice)
            steps += 1
            if steps % _STEPS_A_LOOK == 0:
                self._budget.check(len(tried))

    def _settle(self) -> tuple[int, bool]:
        """Do what fits and changes nothing; gives the rank of the first return left, and whether any did.

        A read of the present value can only lose by waiting: if an order exists
        in which it comes later, moving it here leaves every other operation the
        state it had.
        """
        following, state, head, took = self._next, self._state, self._head, False
        node = following[head]
        while node != head:
            i = node >> 1
            if node & 1:
                return self._back[i], took
            node = following[node]
            step, same = self._step[i], self._sees[i] == state
            if (step is Step.READ and same) or (step is Step.DIFFER and not same):
                if node == 2 * i + 1:  # its own return, which goes with it
                    node = following[node]
                self._lift(i)
                took = True
        return NEVER, took

    def _choices(self, limit: int, *, unseen: bool) -> list[int]:
        """Operations that may come next, the most urgent last; negative numbers are groups.

        Leaving a value that something has yet to see, when nothing is left that
        could put it again, leads nowhere. An unknown operation may as well never
        happen unless the very next change depends on it: `unseen` says that
        nothing has seen what the last one put, so that only a swap may follow.
        """
        state = self._state
        bound = 0 if state == ANY else self._need[state]
        leave = bound == 0 or self._makers[state] > 0
        ready = []
        node = self._next[self._head]
        while not node & 1:
            i = node >> 1
            node = self._next[node]
            step, sees = self._step[i], self._sees[i]
            if step is Step.PUT:
                fits = not unseen and (leave or self._puts[i] == state)
            elif step is Step.SWAP:  # itself one of those that have to see the present value
                fits = (sees == state and (leave or bound == 1)) or (state == ANY and sees in self._before)
            else:
                fits = state == ANY and step is Step.READ and sees in self._before
            if fits:
                ready.append((-self._back[i], i))
        ready.sort()
        unknown = self._unknown(limit, unseen=unseen) if leave else []
        return unknown + [i for _, i in ready]

    def _unknown(self, limit: int, *, unseen: bool) -> list[int]:
        """Groups of unknown operations of which one would be of use now."""
        state, useful = self._state, []
        for g, (sees, puts, calls) in enumerate(self._groups):
            if puts == state or calls[self._used[g]] > limit:
                continue
            if sees == NOTHING:
                fits = not unseen
            else:
                fits = sees == state or (state == ANY and sees in self._before)
            if fits and (self._need[puts] or self._hopes[puts] or self._differ):
                useful.append(-1 - g)
        return useful

    def _do(self, choice: int) -> bool:
        """Take a choice; gives whether it was an unknown operation."""
        if choice >= 0:
            self._lift(choice)
            if self._puts[choice] != NOTHING:
                self._state = self._puts[choice]
            else:  # a read that settles an unknown beginning
                self._state = self._sees[choice]
            return False
        g = -1 - choice
        self._trail.append(choice)
        self._use(g, 1)
        self._used_bits += 1 << self._shift[g]
        self._state = self._groups[g][1]
        return True

    def _use(self, g: int, by: int) -> None:
        sees, puts, _ = self._groups[g]
        self._used[g] += by
        self._makers[puts] -= by
        if sees != NOTHING:
            self._hopes[sees] -= by

    def _lift(self, i: int) -> None:
        """Take a call and its return out of the ring."""
        following, last = self._next, self._last
        for node in (2 * i, 2 * i + 1):
            left, right = last[node], following[node]
            following[left], last[right] = right, left
        self._trail.append(i)
        self._bits |= 1 << (i - self._base)
        self._count(i, 1)

    def _undo(self, mark: int) -> None:
        """Put back what was taken since a mark, in the opposite order."""
        following, last, trail = self._next, self._last, self._trail
        while len(trail) > mark:
            i = trail.pop()
            if i < 0:
                self._use(-1 - i, -1)
                continue
            for node in (2 * i + 1, 2 * i):
                following[last[node]] = last[following[node]] = node
            self._count(i, -1)

    def _count(self, i: int, by: int) -> None:
        """Keep the numbers of what is left to be seen and put."""
        step = self._step[i]
        if step is Step.DIFFER:
            self._differ -= by
            return
        if step is not Step.PUT:
            self._need[self._sees[i]] -= by
        if step is not Step.READ:
            self._makers[self._puts[i]] -= by

    def _slide(self, base: int) -> None:
        """Let the bitset begin at the first operation that is not done: all before it are."""
        self._bits >>= base - self._base
        self._base = base
