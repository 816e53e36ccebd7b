"""The three stores, each with the same file names, behind one small protocol."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from haops.cluster.spec import StoreName
from haops.stores.base import Store

if TYPE_CHECKING:
    from haops.stores.backup import Backing
    from haops.stores.compare import Comparing


def load(name: StoreName) -> Store:
    """The adapter of a store; its client library is imported only now."""
    module = import_module(f"haops.stores.{name.value}")
    store: Store = module.STORE
    return store


def load_backing(name: StoreName) -> Backing:
    """A store's backup and restore. Apart from `load`: the guard has none of its libraries."""
    backing: Backing = import_module(f"haops.stores.{name.value}.backup").BACKING
    return backing


def load_comparing(name: StoreName) -> Comparing:
    """A store's comparison and repair. Apart from `load`: the guard has none of its libraries."""
    comparing: Comparing = import_module(f"haops.stores.{name.value}.compare").COMPARING
    return comparing
