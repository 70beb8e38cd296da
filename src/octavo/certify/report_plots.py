"""The report's figures as hand-made inline SVG. Knows numbers and pixels; the style sheet knows colours.

Every figure is drawn for a wide page and again for a phone: text in a scaled-down picture cannot be read.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from octavo.certify.wording import heading, interval_points, metric_name, milliseconds, score, score_axis, signed_points
from octavo.types import Interval

Mark = Literal["pass", "inconclusive", "fail", "baseline"]

WIDE, NARROW = 968, 350
_FONT = 13
_HALF_LINE = 9


@dataclass(frozen=True, slots=True)
class Point:
    """One model in the scatter: milliseconds per query, its score as a fraction, and how it is marked."""

    name: str
    ms: float
    score: float
    mark: Mark
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """One rung in the interval plot."""

    name: str
    difference: Interval
    mark: Mark
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Latencies:
    """One runner in the histogram: counts per bin, and the two quantiles that are marked."""

    name: str
    counts: Sequence[int]
    p50_ms: float
    p99_ms: float
    chosen: bool = False

    @property
    def samples(self) -> int:
        """Queries that were timed."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: _Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(slots=True)
class _Drawing:
    """Collects SVG elements; closes them into a figure that a screen reader can announce."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.parts.append(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x: float, y: float, content: str, css: str = "label", anchor: str = "start") -> None:
        self.parts.append(
            f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        self.parts.append(f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')

    def path(self, d: str, css: str) -> None:
        self.parts.append(f'<path class="{css}" d="{d}"/>')

    def mark(self, x: float, y: float, mark: Mark, chosen: bool) -> None:
        css = f"mark {mark}{' chosen' if chosen else ''}"
        size = 6.5 if chosen else 5.0
        if mark == "fail":
            self.path(f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10", css)
        elif mark == "baseline":
            self.rect(x - 4.5, y - 4.5, 9, 9, css)
        else:
            self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>')

    def svg(self, identifier: str, title: str, description: str) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-labelledby="{identifier}-title {identifier}-description">'
            f'<title id="{identifier}-title">{escape(title)}</title>'
            f'<desc id="{identifier}-description">{escape(description)}</desc>{"".join(self.parts)}</svg>'
        )


def scatter(points: Sequence[Point], teacher: float, margin: float, *, metric: str, item: str = "query") -> str:
    """Draw score over latency (logarithmic), with the teacher's score and what the margin allows."""
    described = "; ".join(f"{p.name}: {score(p.score, metric)}, {milliseconds(p.ms)} ms" for p in points)
    title = f"{heading(metric_name(metric))} against milliseconds per {item}"
    axes = score_axis(metric), f"ms per {item}, batches of 32 (log) → slower"

    def draw(width: int) -> str:
        return _scatter(points, teacher, margin, axes, width).svg(f"scatter-{width}", title, described)

    return _both(draw)


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

    return _both(draw)


def latency_histogram(runners: Sequence[Latencies], edges_ms: Sequence[float], *, item: str = "query") -> str:
    """Draw one histogram per runner over a shared logarithmic axis of milliseconds."""
    described = "; ".join(
        f"{r.name}: median {milliseconds(r.p50_ms)} ms, 99th percentile {milliseconds(r.p99_ms)} ms" for r in runners
    )

    def draw(width: int) -> str:
        drawing = _histogram(runners, edges_ms, f"ms per single {item} (log) → slower", width)
        return drawing.svg(f"latency-{width}", f"Latency of each single {item}", described)

    return _both(draw)


def interval_bar(difference: Interval, reach: float, *, margin: float | None = None, width: int = 120) -> str:
    """Draw a difference with its interval as a small bar beside numbers; `reach` is the end of its axis."""
    drawing = _Drawing(width, 16)
    scale = _linear(-reach, reach, 2, width - 2)
    drawing.line(scale(0), 1, scale(0), 15, "zero")
    if margin is not None:
        drawing.line(scale(-margin), 1, scale(-margin), 15, "margin")
    low, high = max(difference.low, -reach), min(difference.high, reach)
    drawing.line(scale(low), 8, scale(high), 8, "span")
    value = min(max(difference.value, -reach), reach)
    drawing.parts.append(f'<circle class="dot" cx="{scale(value):.1f}" cy="8" r="3.5"/>')
    body = "".join(drawing.parts)
    return f'<svg class="bar" viewBox="0 0 {width} 16" width="{width}" height="16" aria-hidden="true">{body}</svg>'


def _both(draw: Callable[[int], str]) -> str:
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def _scatter(points: Sequence[Point], teacher: float, margin: float, axes: tuple[str, str], width: int) -> _Drawing:
    narrow = width < 500
    drawing = _Drawing(width, 380 if narrow else 400)
    plot = _Box(52, 34, width - 14, drawing.height - 46)
    low_ms, high_ms = min(p.ms for p in points), max(p.ms for p in points)
    x = _logarithmic(low_ms / 1.5, high_ms * (2.6 if narrow else 1.7), plot.left, plot.right)
    scores = [*(p.score for p in points), teacher, teacher - margin]
    spread = max(max(scores) - min(scores), 0.002)
    low, high = min(scores) - 0.12 * spread, max(scores) + 0.14 * spread
    y = _linear(low, high, plot.bottom, plot.top)

    for tick in _ticks(low, high, 5):
        drawing.line(plot.left, y(tick), plot.right, y(tick), "grid")
        drawing.text(plot.left - 8, y(tick) + 4, f"{tick * 100:.{_decimals(low, high)}f}", "tick", "end")
    for tick in _log_ticks(low_ms / 1.5, high_ms * (2.6 if narrow else 1.7), narrow):
        drawing.line(x(tick), plot.bottom, x(tick), plot.bottom + 4, "axis")
        drawing.text(x(tick), plot.bottom + 20, f"{tick:.3g}", "tick", "middle")
    drawing.line(plot.left, plot.bottom, plot.right, plot.bottom, "axis")
    drawing.text(plot.left - 44, 16, axes[0], "caption")
    drawing.text(plot.right, drawing.height - 6, axes[1], "caption", "end")

    drawing.rect(plot.left, y(teacher), plot.right - plot.left, y(teacher - margin) - y(teacher), "band")
    drawing.line(plot.left, y(teacher), plot.right, y(teacher), "zero")
    drawing.line(plot.left, y(teacher - margin), plot.right, y(teacher - margin), "margin")
    places = [(x(p.ms), y(p.score)) for p in points]
    occupied = [_Box(px - 8, py - 8, px + 8, py + 8) for px, py in places]
    for content, level, above in (("teacher", teacher, True), ("teacher − margin", teacher - margin, False)):
        box = _line_label(content, y(level), above, plot, occupied)
        occupied.append(box)
        drawing.text(box.left, box.bottom - 5, content, "caption")
    _label_points(drawing, points, places, occupied, plot)
    for point, (px, py) in zip(points, places, strict=True):
        drawing.mark(px, py, point.mark, point.chosen)
    return drawing


def _line_label(content: str, y: float, above: bool, plot: _Box, occupied: Sequence[_Box]) -> _Box:
    """Find room for the name of a horizontal line: at its right end if that is free, else further left."""
    length = _text_width(content)
    top = y - 20 if above else y + 2
    boxes = [
        _Box(right - length, top, right, top + 18) for right in _steps(plot.right - 4, plot.left + length + 4, -12.0)
    ]
    return next((b for b in boxes if not any(b.overlaps(o) for o in occupied)), boxes[0])


def _label_points(
    drawing: _Drawing,
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    occupied: list[_Box],
    plot: _Box,
) -> None:
    """Write each name beside its point, further off on a thin leader where the near places are taken."""
    for index in sorted(range(len(points)), key=lambda i: (not points[i].chosen, places[i][1])):
        (px, py), point = places[index], points[index]
        length = _text_width(point.name)
        box, far = next(
            (
                (candidate, far)
                for candidate, far in _candidates(px, py, length)
                if candidate.within(plot) and not any(candidate.overlaps(taken) for taken in occupied)
            ),
            (_Box(px + 11, py - _HALF_LINE, px + 11 + length, py + _HALF_LINE), False),
        )
        occupied.append(box)
        if far:
            end_x = min(max(px, box.left), box.right)
            end_y = min(max(py, box.top + 2), box.bottom - 2)
            drawing.line(px, py, end_x, end_y, "leader")
        drawing.text(box.left, box.bottom - 5, point.name, "label chosen" if point.chosen else "label")


def _candidates(px: float, py: float, length: float) -> Iterator[tuple[_Box, bool]]:
    """Yield places for a label of `length` near a point, the best first, and whether each needs a leader."""
    for distance in (11, 22, 36, 52, 70, 90, 112, 136):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            centre_y = py + dy * (distance + 4)
            left = px + distance * dx if dx > 0 else px - length / 2 if dx == 0 else px - distance - length
            yield _Box(left, centre_y - _HALF_LINE, left + length, centre_y + _HALF_LINE), distance > 11


def _forest(spans: Sequence[Span], margin: float, width: int) -> _Drawing:
    narrow = width < 500
    pitch = 52 if narrow else 38
    names = 0.0 if narrow else min(max(_text_width(s.name, bold=s.chosen) for s in spans) + 24, 240)
    numbers = 0.0 if narrow else 178
    drawing = _Drawing(width, 40 + pitch * len(spans) + 40)
    left, right, bottom = names + 6, width - numbers - 8, 40 + pitch * len(spans)
    # One rung that lost twenty points must not squeeze the others: what is further off ends in an arrow.
    low = min(-1.6 * margin, max(min(s.difference.low for s in spans) * 1.08, -6 * margin))
    high = max(1.0 * margin, min(max(s.difference.high for s in spans) * 1.08, 4 * margin))
    x = _linear(low, high, left, right)
    drawing.rect(left, 28, x(-margin) - left, bottom - 28, "refused")
    for tick in _ticks(low, high, 4 if narrow else 7):
        drawing.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        content = signed_points(tick) if _decimals(low, high) > 1 else f"{tick * 100:+.1f}".replace("-", "−")
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
    drawing: _Drawing,
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


def _histogram(runners: Sequence[Latencies], edges_ms: Sequence[float], axis: str, width: int) -> _Drawing:
    narrow = width < 500
    pitch, tall = (104, 60) if narrow else (84, 58)
    names = 6 if narrow else 150
    drawing = _Drawing(width, 8 + pitch * len(runners) + 44)
    bottom = 8 + pitch * len(runners)
    x = _logarithmic(edges_ms[0], edges_ms[-1], names, width - 12)
    for tick in _log_ticks(edges_ms[0], edges_ms[-1], narrow):
        drawing.line(x(tick), 8, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 20, f"{tick:.3g}", "tick", "middle")
    drawing.text(width - 12, bottom + 38, axis, "caption", "end")
    for number, runner in enumerate(runners):
        base = 8 + pitch * (number + 1) - 8
        drawing.line(names, base, width - 12, base, "axis")
        drawing.path(_outline(runner.counts, [x(e) for e in edges_ms], base, tall), _fill(runner))
        quantiles = f"p50 {milliseconds(runner.p50_ms)} · p99 {milliseconds(runner.p99_ms)} ms"
        css = "label chosen" if runner.chosen else "label"
        if narrow:
            drawing.text(6, base - tall - 12, f"{runner.name}: {quantiles}", css)
        else:
            drawing.text(0, base - 30, runner.name, css)
            drawing.text(0, base - 11, quantiles, "caption")
        for ms in (runner.p50_ms, runner.p99_ms):
            drawing.line(x(ms), base + 5, x(ms), base - (tall if ms == runner.p50_ms else 18), "quantile")
    return drawing


def _fill(runner: Latencies) -> str:
    return "bins chosen" if runner.chosen else "bins"


def _outline(counts: Sequence[int], edges_x: Sequence[float], base: float, tall: float) -> str:
    """Trace a histogram as one closed step line; heights are relative to its own fullest bin."""
    most = max(max(counts), 1)
    steps = [
        f"L{left:.1f} {base - tall * n / most:.1f}L{right:.1f} {base - tall * n / most:.1f}"
        for n, left, right in zip(counts, edges_x, edges_x[1:], strict=False)
    ]
    return f"M{edges_x[0]:.1f} {base:.1f}{''.join(steps)}L{edges_x[-1]:.1f} {base:.1f}Z"


def _linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _logarithmic(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    straight = _linear(math.log(low), math.log(high), start, end)
    return lambda value: straight(math.log(value))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers within [low, high], about `most` of them."""
    step = _tick_step(low, high, most)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_step(low: float, high: float, most: int) -> float:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def _decimals(low: float, high: float) -> int:
    """Decimals that tell the ticks of an axis apart, in points."""
    return min(max(math.ceil(-math.log10((high - low) * 100 / 8)), 0), 3)


def _log_ticks(low: float, high: float, narrow: bool) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within [low, high]; fewer or more where those are many or few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(ticks) > (6 if narrow else 12):
        return [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(ticks) < 3:
        return _ticks(low, high, 4)
    return ticks


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + step * n for n in range(max(1, int((end - start) / step) + 1))]


def _text_width(content: str, *, bold: bool = False) -> float:
    """Estimate the width of a label; Chinese, Japanese and Korean characters are square."""
    squares = sum(unicodedata.east_asian_width(c) in "WF" for c in content)
    return _FONT * ((0.6 if bold else 0.57) * (len(content) - squares) + squares)
