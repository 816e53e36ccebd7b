"""A drill's result as one HTML file."""

from __future__ import annotations

from markupsafe import Markup

from haops.drills.result import DrillResult
from haops.report import text
from haops.report.page import policy, resource, template
from haops.report.views import store_views, verdict_sentence


def render(result: DrillResult) -> str:
    """The text of report.html; the same result always gives the same text."""
    style, script = resource("report.css"), resource("report.js")
    return template("report.html.j2").render(
        result=result,
        style=Markup(style),  # noqa: S704 - this package's own file
        script=Markup(script),  # noqa: S704 - this package's own file
        policy=policy(style, script),
        rows=text.summary_rows(result),
        glossary=text.GLOSSARY,
        stores=store_views(result),
        sentence=verdict_sentence(result),
    )
