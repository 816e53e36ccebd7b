"""The three stores, each with the same file names, behind one small protocol."""

from __future__ import annotations

from importlib import import_module

from haops.cluster.spec import StoreName
from haops.stores.base import Store


def load(name: StoreName) -> Store:
    """The adapter of a store; its client library is imported only now."""
    module = import_module(f"haops.stores.{name.value}")
    store: Store = module.STORE
    return store
