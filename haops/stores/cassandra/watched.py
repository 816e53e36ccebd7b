"""Work that blocks, done in a thread so that its progress can be told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import Final

from haops.errors import Interrupted

_EVERY_S: Final = 0.3


class Counter:
    """Bytes that have gone through; stops whoever is still reading when nobody watches any more."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._stopped = Event()

    def counted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, counted once they were taken."""
        for block in blocks:
            if self._stopped.is_set():
                raise Interrupted("the work was broken off")
            yield block
            self.value += len(block)

    def stop(self) -> None:
        """Let what still reads end with an error."""
        self._stopped.set()


def watched(work: Callable[[], None], counter: Counter) -> Iterator[int]:
    """How far `counter` is, some times a second, until the work has ended. Raises what the work raises."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            while not future.done():
                wait([future], timeout=_EVERY_S)
                yield counter.value
            future.result()
        except BaseException:  # an interruption, too: the pool waits for the work to end
            counter.stop()
            raise
