"""What every report page is made of: templates, this package's own resources, a security policy.

A page is one HTML file that needs nothing else: no network, no fonts.  Jinja2
escapes everything; only the drawings, which escape for themselves, and this
package's own style sheet and script are inserted as they are.  A content
security policy admits just these by their hashes, so that not even a server's
words that slipped through could load or run anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from haops.report import text

_TEMPLATES: Final = "templates"
# "5.02 s (4.91-5.30 s)" may break before the bracket and after an arrow, never between number and unit.
_SHORT: Final = 18
_BREAKS: Final = re.compile(r"(?<=\S) (?=\(|\u2192|\d+ of )")


def policy(style: str, script: str | None = None) -> str:
    """The content security policy that admits this style sheet and script, and nothing else."""
    scripts = "" if script is None else f"script-src '{_hash(script)}'; "
    return f"default-src 'none'; style-src '{_hash(style)}'; {scripts}base-uri 'none'; form-action 'none'"


@cache
def template(name: str, **filters: Callable[..., object]) -> Template:
    """A template of this package, with escaping.

    Args:
        filters: Those that only this page has, beside the ones for figures and times.
    """
    environment = Environment(
        loader=PackageLoader("haops.report", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        at=text.format_at,
        count=text.format_count,
        figure=_figure,
        ms=text.format_ms,
        printable=text.printable,
        rate=text.format_rate,
        utc=text.format_time,
        compact=lambda value: json.dumps(value, separators=(",", ":")),
        **filters,
    )
    return environment.get_template(name)


def _figure(value: str) -> Markup:
    """A formatted figure whose parts do not break within themselves, unless they are words."""
    parts = [
        Markup('<span class="nb">{}</span>').format(part) if len(part) <= _SHORT else escape(part)
        for part in _BREAKS.split(value)
    ]
    return Markup(" ").join(parts)


@cache
def resource(name: str) -> str:
    """The text of this package's own style sheet or script."""
    return files("haops.report").joinpath(_TEMPLATES, name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
