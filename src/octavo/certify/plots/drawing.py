"""What figures are drawn with: SVG elements, axes and the width of words. Knows pixels; the style sheet knows colours.

Every figure is drawn for a wide page and again for a phone: text in a scaled-down picture cannot be read.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Mark = Literal["pass", "inconclusive", "fail", "baseline"]

WIDE, NARROW = 968, 350
_FONT = 13


@dataclass(slots=True)
class Drawing:
    """Collects SVG elements; closes them into a figure that a screen reader can announce."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a line."""
        self.parts.append(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x: float, y: float, content: str, css: str = "label", anchor: str = "start") -> None:
        """Write text; `anchor` says which end of it is at `x`."""
        self.parts.append(
            f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
        )

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """Draw a rectangle."""
        self.parts.append(f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')

    def path(self, d: str, css: str) -> None:
        """Draw a path, as SVG spells it."""
        self.parts.append(f'<path class="{css}" d="{d}"/>')

    def mark(self, x: float, y: float, mark: Mark, chosen: bool) -> None:
        """Draw the mark of a model."""
        css = f"mark {mark}{' chosen' if chosen else ''}"
        size = 6.5 if chosen else 5.0
        if mark == "fail":
            self.path(f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10", css)
        elif mark == "baseline":
            self.rect(x - 4.5, y - 4.5, 9, 9, css)
        else:
            self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>')

    def svg(self, identifier: str, title: str, description: str) -> str:
        """Return the figure."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-labelledby="{identifier}-title {identifier}-description">'
            f'<title id="{identifier}-title">{escape(title)}</title>'
            f'<desc id="{identifier}-description">{escape(description)}</desc>{"".join(self.parts)}</svg>'
        )


def for_both_widths(draw: Callable[[int], str]) -> str:
    """Draw a figure for a wide page and for a phone; the style sheet shows one of them."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the axis that takes `low` to pixel `start` and `high` to `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the same as a logarithmic axis."""
    straight = linear(math.log(low), math.log(high), start, end)
    return lambda value: straight(math.log(value))


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers within [low, high], about `most` of them."""
    step = _tick_step(low, high, most)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_step(low: float, high: float, most: int) -> float:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def decimals(low: float, high: float) -> int:
    """Decimals that tell the ticks of an axis apart, in points."""
    return min(max(math.ceil(-math.log10((high - low) * 100 / 8)), 0), 3)


def log_ticks(low: float, high: float, narrow: bool) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within [low, high]; fewer or more where those are many or few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(ticks) > (6 if narrow else 12):
        return [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(ticks) < 3:
        return round_ticks(low, high, 4)
    return ticks


def text_width(content: str, *, bold: bool = False) -> float:
    """Estimate the width of a label; Chinese, Japanese and Korean characters are square."""
    squares = sum(unicodedata.east_asian_width(c) in "WF" for c in content)
    return _FONT * ((0.6 if bold else 0.57) * (len(content) - squares) + squares)
