"""Elements, paths and labels of SVG: pure functions from values to markup.

Colours come from the page's style sheet by class, so that one drawing serves
light, dark and print.  Everything goes through `Markup`, so text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

FONT_PX = 12
# Widest common sans-serif, a little above its average: an estimate must not be too small.
_CHAR_PX = 0.58 * FONT_PX

Scale = Callable[[float], float]


def number(value: float) -> str:
    """A coordinate with at most one decimal: a tenth of a pixel is more than anybody sees."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def el(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; `cls` is `class`, `_` in names is `-`, text is escaped, None attributes are left out."""
    parts = []
    for name, value in attributes.items():
        if value is None:
            continue
        key = "class" if name == "cls" else name.replace("_", "-")
        shown = number(value) if isinstance(value, float) else value
        parts.append(f' {key}="{escape(shown)}"')
    body = "".join(escape(c) for c in children)
    # Tag and keys are literals of this package; values and children are escaped above.
    return Markup(f"<{tag}{''.join(parts)}>{body}</{tag}>")  # noqa: S704


def drawing(
    ident: str, width: int, height: float, title: str, desc: str, cls: str, body: Iterable[Markup]
) -> Markup:
    """A whole picture of `width` x `height` px with its name and description for screen readers."""
    return el(
        "svg",
        el("title", title, id=f"{ident}-t"),
        el("desc", desc, id=f"{ident}-d"),
        *body,
        cls=cls,
        viewBox=f"0 0 {width} {number(height)}",
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
    )


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Markup:
    """A straight line between two points in px."""
    return el("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), cls=cls)


def text(x: float, y: float, words: str, cls: str, anchor: str | None = None) -> Markup:
    """Text whose base line begins at, ends at or is centred on a point in px, by `anchor`."""
    return el("text", words, x=float(x), y=float(y), cls=cls, text_anchor=anchor)


def text_px(words: str) -> float:
    """About how wide `words` will be, in px; rather too much than too little."""
    return len(words) * _CHAR_PX


def step_line(edges: Sequence[float], values: Sequence[float | None], x: Scale, y: Scale) -> str:
    """Path data of a line that is level within each bucket and broken where there is no value.

    Args:
        edges: Borders of the buckets; one more than values.
    """
    parts: list[str] = []
    level: str | None = None
    for index, value in enumerate(values):
        if value is None:
            level = None
            continue
        height = number(y(value))
        if level is None:
            parts.append(f"M{number(x(edges[index]))} {height}")
        elif height != level:
            parts.append(f"V{height}")
        level = height
        following = values[index + 1] if index + 1 < len(values) else None
        # A run of equal values is one stroke; that keeps quiet stretches short in the file.
        if following is None or number(y(following)) != height:
            parts.append(f"H{number(x(edges[index + 1]))}")
    return "".join(parts)


def step_area(edges: Sequence[float], values: Sequence[float], x: Scale, y: Scale) -> str:
    """Path data of the area between 0 and the step line."""
    if not values:
        return ""
    top = step_line(edges, values, x, y)
    return f"{top}V{number(y(0.0))}H{number(x(edges[0]))}Z"


@dataclass(frozen=True, slots=True)
class Label:
    """Words for a vertical line at `x` px, and where they go.

    Args:
        lane: Row of labels, 0 at the top.
        left: Left border of the words, px.
        right: Right border of the words, px.
        flipped: The words stand left of their line.
    """

    x: float
    words: str
    lane: int
    left: float
    right: float
    flipped: bool


def place_labels(wanted: Sequence[tuple[float, str]], limit: float, gap: float = 5.0) -> list[Label]:
    """Give each label a lane in which it touches neither another label nor another label's line.

    Lines run down from their label, so a label must also keep clear of the
    lines of those above it, and its own line of the labels below it.

    Args:
        wanted: x in px and words, ordered by x.
        limit: Right border that no label should cross, px.
    """
    draft = _choose_sides(wanted, limit, gap)
    # This order makes a new lowest lane always free: no line above it can cross the newcomer's words.
    order = [a for a in draft if not a.flipped] + [a for a in reversed(draft) if a.flipped]
    placed: list[Label] = []
    for label in order:
        lanes = (replace(label, lane=lane) for lane in range(len(placed) + 1))
        lowest = replace(label, lane=len(placed))
        placed.append(next((a for a in lanes if not any(_collide(a, b, gap) for b in placed)), lowest))
    return sorted(placed, key=lambda a: a.x)


def _choose_sides(wanted: Sequence[tuple[float, str]], limit: float, gap: float) -> list[Label]:
    """Words stand right of their line; left of it at the border, and where a neighbour's words would be crossed."""
    labels: list[Label] = []
    for x, words in reversed(wanted):
        width = text_px(words)
        covered = any(a.flipped and _crosses(x, a) for a in labels)
        flipped = x - gap - width >= 0 and (covered or x + gap + width > limit)
        left = x - gap - width if flipped else x + gap
        labels.append(Label(x, words, 0, left, left + width, flipped))
    return labels[::-1]


def _crosses(x: float, label: Label) -> bool:
    return label.left - 2 <= x <= label.right + 2


def _collide(one: Label, two: Label, gap: float) -> bool:
    if one.lane == two.lane:
        # A label reaches from its line to the end of its words.
        return (
            min(one.left, one.x) < max(two.right, two.x) + gap
            and min(two.left, two.x) < max(one.right, one.x) + gap
        )
    upper, lower = (one, two) if one.lane < two.lane else (two, one)
    return _crosses(upper.x, lower)
