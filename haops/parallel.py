"""Asking all nodes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def ask_all(ask: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """`ask` of every item in a thread of its own; answers in the items' order."""
    asked = list(items)
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return list(pool.map(ask, asked))
