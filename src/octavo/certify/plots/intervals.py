"""Differences to the teacher with their intervals: of all rungs against the margin, and one beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.certify.plots.drawing import Drawing, Mark, decimals, for_both_widths, linear, round_ticks, text_width
from octavo.certify.wording import interval_points, signed_points
from octavo.types import Interval


@dataclass(frozen=True, slots=True)
class Span:
    """One rung in the interval plot."""

    name: str
    difference: Interval
    mark: Mark
    chosen: bool = False


def forest(spans: Sequence[Span], margin: float, *, identifier: str = "forest") -> str:
    """Draw each rung's difference to the teacher with its interval, against zero and the margin.

    Args:
        spans: one per rung.
        margin: as a fraction.
        identifier: tells the forests of a page apart.
    """
    described = "; ".join(
        f"{s.name}: {signed_points(s.difference.value)} points {interval_points(s.difference)}, {s.mark}" for s in spans
    )
    title = f"Difference to the teacher with 95% intervals; the margin is −{margin:.2%}"

    def draw(width: int) -> str:
        return _forest(spans, margin, width).svg(f"{identifier}-{width}", title, described)

    return for_both_widths(draw)


def interval_bar(difference: Interval, reach: float, *, margin: float | None = None, width: int = 120) -> str:
    """Draw a difference with its interval as a small bar beside numbers; `reach` is the end of its axis."""
    drawing = Drawing(width, 16)
    scale = linear(-reach, reach, 2, width - 2)
    drawing.line(scale(0), 1, scale(0), 15, "zero")
    if margin is not None:
        drawing.line(scale(-margin), 1, scale(-margin), 15, "margin")
    low, high = max(difference.low, -reach), min(difference.high, reach)
    drawing.line(scale(low), 8, scale(high), 8, "span")
    value = min(max(difference.value, -reach), reach)
    drawing.parts.append(f'<circle class="dot" cx="{scale(value):.1f}" cy="8" r="3.5"/>')
    body = "".join(drawing.parts)
    return f'<svg class="bar" viewBox="0 0 {width} 16" width="{width}" height="16" aria-hidden="true">{body}</svg>'


def _forest(spans: Sequence[Span], margin: float, width: int) -> Drawing:
    narrow = width < 500
    pitch = 52 if narrow else 38
    names = 0.0 if narrow else min(max(text_width(s.name, bold=s.chosen) for s in spans) + 24, 240)
    numbers = 0.0 if narrow else 178
    drawing = Drawing(width, 40 + pitch * len(spans) + 40)
    left, right, bottom = names + 6, width - numbers - 8, 40 + pitch * len(spans)
    # One rung that lost twenty points must not squeeze the others: what is further off ends in an arrow.
    low = min(-1.6 * margin, max(min(s.difference.low for s in spans) * 1.08, -6 * margin))
    high = max(1.0 * margin, min(max(s.difference.high for s in spans) * 1.08, 4 * margin))
    x = linear(low, high, left, right)
    drawing.rect(left, 28, x(-margin) - left, bottom - 28, "refused")
    for tick in round_ticks(low, high, 4 if narrow else 7):
        drawing.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        content = signed_points(tick) if decimals(low, high) > 1 else f"{tick * 100:+.1f}".replace("-", "−")
        drawing.text(x(tick), bottom + 19, "0" if abs(tick) < 1e-12 else content, "tick", "middle")
    drawing.line(left, bottom, right, bottom, "axis")
    drawing.line(x(0), 28, x(0), bottom, "zero")
    drawing.line(x(-margin), 28, x(-margin), bottom, "margin")
    drawing.text(x(-margin) + 4, 18, "−margin", "caption", "end")
    drawing.text(x(0) - 4, 18, "teacher", "caption")
    drawing.text(right, bottom + 37, "points better →", "caption", "end")
    for number, span in enumerate(spans):
        y = 40 + pitch * (number + 0.5) + (10 if narrow else 0)
        _forest_row(drawing, span, y, x, (low, high), narrow)
    return drawing


def _forest_row(
    drawing: Drawing,
    span: Span,
    y: float,
    x: Callable[[float], float],
    limits: tuple[float, float],
    narrow: bool,
) -> None:
    low, high = limits
    css = "label chosen" if span.chosen else "label"
    exact = f"{signed_points(span.difference.value)} {interval_points(span.difference)}"
    label_y = y - 16 if narrow else y + 4.5
    drawing.text(6 if narrow else 0, label_y, span.name, css)
    drawing.text(drawing.width - (8 if narrow else 0), label_y, exact, f"{css} figures", "end")
    start, end = max(span.difference.low, low), min(span.difference.high, high)
    if start < high and end > low:
        drawing.line(x(start), y, x(end), y, f"span {span.mark}{' chosen' if span.chosen else ''}")
    if span.difference.low < low:
        drawing.path(f"M{x(low) + 7:.1f} {y - 5:.1f}l-7 5l7 5", f"arrow {span.mark}")
    if span.difference.high > high:
        drawing.path(f"M{x(high) - 7:.1f} {y - 5:.1f}l7 5l-7 5", f"arrow {span.mark}")
    if low <= span.difference.value <= high:
        drawing.mark(x(span.difference.value), y, span.mark, span.chosen)
