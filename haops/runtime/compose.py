"""Rendering of a cluster's Compose project from the shipped templates.

The rendered file holds the servers' configuration as inline `configs`, which
Compose copies into each container when it is created. Nothing is mounted from
the host, so the same file works with a remote engine, and a server that
rewrites its configuration works on a copy of its own.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haops.cluster.spec import Cluster
from haops.cluster.state import write_atomic
from haops.runtime import labels
from haops.runtime.resources import compose_dir

_CONTENT_INDENT = " " * 6


def render(cluster: Cluster, context: Mapping[str, Any]) -> str:
    """The Compose project of `cluster` as text.

    Args:
        cluster: Its store names the folder of templates.
        context: What the store adds to the templates' variables.
    """
    import jinja2  # 50 ms

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader([compose_dir() / cluster.store.value, compose_dir()]),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is YAML; values go through `tojson` below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Configuration files get plain JSON strings, and the whole text is escaped for Compose once.
    files = env.overlay()
    files.filters = env.filters | {"tojson": json.dumps}
    env.filters["tojson"] = _scalar

    def file(name: str, **extra: Any) -> str:
        text = files.get_template(name).render(cluster=cluster, **context, **extra)
        return textwrap.indent(text.replace("$", "$$").rstrip("\n"), _CONTENT_INDENT)

    return env.get_template("compose.yaml.j2").render(
        cluster=cluster,
        cluster_labels=labels.cluster_labels(cluster),
        node_labels=lambda node: labels.node_labels(cluster, node),
        file=file,
        **context,
    )


def _scalar(value: object) -> str:
    """A JSON string is a YAML string; `$` would be Compose's own interpolation."""
    return json.dumps(value).replace("$", "$$")


def write_project(cluster: Cluster, context: Mapping[str, Any], folder: Path) -> Path:
    """Render the project into `folder/compose.yaml`."""
    path = folder / "compose.yaml"
    write_atomic(path, render(cluster, context))
    return path
