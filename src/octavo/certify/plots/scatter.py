"""Score over latency, a point a model. Finds room for its names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octavo.certify.plots.drawing import (
    Drawing,
    Mark,
    decimals,
    for_both_widths,
    linear,
    log_ticks,
    logarithmic,
    round_ticks,
    text_width,
)
from octavo.certify.wording import heading, metric_name, milliseconds, score, score_axis

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


def scatter(points: Sequence[Point], teacher: float, margin: float, *, metric: str, item: str = "query") -> str:
    """Draw score over latency (logarithmic), with the teacher's score and what the margin allows."""
    described = "; ".join(f"{p.name}: {score(p.score, metric)}, {milliseconds(p.ms)} ms" for p in points)
    title = f"{heading(metric_name(metric))} against milliseconds per {item}"
    axes = score_axis(metric), f"ms per {item}, batches of 32 (log) → slower"

    def draw(width: int) -> str:
        return _scatter(points, teacher, margin, axes, width).svg(f"scatter-{width}", title, described)

    return for_both_widths(draw)


def _scatter(points: Sequence[Point], teacher: float, margin: float, axes: tuple[str, str], width: int) -> Drawing:
    narrow = width < 500
    drawing = Drawing(width, 380 if narrow else 400)
    plot = _Box(52, 34, width - 14, drawing.height - 46)
    low_ms, high_ms = min(p.ms for p in points), max(p.ms for p in points)
    x = logarithmic(low_ms / 1.5, high_ms * (2.6 if narrow else 1.7), plot.left, plot.right)
    scores = [*(p.score for p in points), teacher, teacher - margin]
    spread = max(max(scores) - min(scores), 0.002)
    low, high = min(scores) - 0.12 * spread, max(scores) + 0.14 * spread
    y = linear(low, high, plot.bottom, plot.top)

    for tick in round_ticks(low, high, 5):
        drawing.line(plot.left, y(tick), plot.right, y(tick), "grid")
        drawing.text(plot.left - 8, y(tick) + 4, f"{tick * 100:.{decimals(low, high)}f}", "tick", "end")
    for tick in log_ticks(low_ms / 1.5, high_ms * (2.6 if narrow else 1.7), narrow):
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
    length = text_width(content)
    top = y - 20 if above else y + 2
    boxes = [
        _Box(right - length, top, right, top + 18) for right in _steps(plot.right - 4, plot.left + length + 4, -12.0)
    ]
    return next((b for b in boxes if not any(b.overlaps(o) for o in occupied)), boxes[0])


def _label_points(
    drawing: Drawing,
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    occupied: list[_Box],
    plot: _Box,
) -> None:
    """Write each name beside its point, further off on a thin leader where the near places are taken."""
    for index in sorted(range(len(points)), key=lambda i: (not points[i].chosen, places[i][1])):
        (px, py), point = places[index], points[index]
        length = text_width(point.name)
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


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + step * n for n in range(max(1, int((end - start) / step) + 1))]
