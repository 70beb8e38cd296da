"""One figure per cell as hand-made SVG: a panel for each case, milliseconds per query on a logarithmic axis.

Knows numbers and pixels. Colours are its own, light and dark, as the file stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.engines.cell import CaseResult, CellResult
from bench.engines.summary import OURS
from bench.engines.timing import median_of

_COLUMNS = 2
_PANEL, _NAMES, _LINE, _HEAD, _FOOT, _GAP = 300, 280, 18, 34, 26, 24  # pixels
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600}.tick{fill:#666;font-size:11px}"
    ".grid{stroke:#ddd}.span{stroke:#667;stroke-width:2}.dot{fill:#667}.ours.span{stroke:#0a6}.ours.dot{fill:#0a6}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.tick{fill:#999}.grid{stroke:#444}.span{stroke:#99a}.dot{fill:#99a}}"
)


def figure(cell: CellResult) -> str:
    """Return the cell's SVG: names on the left of each panel, the fastest on top, medians with their intervals."""
    cases = [case for case in cell.cases if case.timings]
    rows = [cases[start : start + _COLUMNS] for start in range(0, len(cases), _COLUMNS)]
    width = _COLUMNS * (_NAMES + _PANEL + _GAP) + _GAP
    parts, top = [f'<text class="title" x="{_GAP}" y="22">{escape(cell.cell.title)}: ms per query (log)</text>'], 34.0
    for row in rows:
        for place, case in enumerate(row):
            parts += _panel(case, _GAP + place * (_NAMES + _PANEL + _GAP), top)
        top += _HEAD + _FOOT + _LINE * max(len(case.timings) for case in row)
    described = "; ".join(f"{case.case.title}: {_described(case)}" for case in cases)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:.0f}" width="{width}" role="img">'
        f"<title>{escape(cell.cell.title)}</title><desc>{escape(described)}</desc><style>{_STYLE}</style>"
        f"{''.join(parts)}</svg>\n"
    )


def _panel(case: CaseResult, left: float, top: float) -> list[str]:
    spans = {name: median_of(timing.rounds_ms) for name, timing in case.timings.items()}
    ranked = sorted(spans, key=lambda name: spans[name].value)
    low, high = min(span.low for span in spans.values()), max(span.high for span in spans.values())
    ticks = ticks_between(low, high)
    first, last = math.log(min(low, ticks[0])), math.log(max(high, ticks[-1]))

    def x(ms: float) -> float:
        return left + _NAMES + _PANEL * (math.log(ms) - first) / ((last - first) or 1.0)

    bottom = top + _HEAD + _LINE * len(ranked)
    parts = [f'<text class="title" x="{left:.0f}" y="{top + 20:.0f}">{escape(case.case.title)}</text>']
    for tick in ticks:
        at = f"{x(tick):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{top + _HEAD - 6:.0f}" y2="{bottom:.0f}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{bottom + 14:.0f}" text-anchor="middle">{tick:g}</text>')
    for place, name in enumerate(ranked):
        y, span, css = top + _HEAD + _LINE * (place + 0.5), spans[name], " ours" if name in OURS else ""
        shown = f"{span.value:.3g}"
        parts.append(f'<text x="{left:.0f}" y="{y + 4:.0f}">{escape(name)}</text>')
        parts.append(f'<text x="{left + _NAMES - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{shown}</text>')
        parts.append(f'<line class="span{css}" x1="{x(span.low):.1f}" x2="{x(span.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot{css}" cx="{x(span.value):.1f}" cy="{y}" r="4"/>')
    return parts


def _described(case: CaseResult) -> str:
    medians = {name: median_of(timing.rounds_ms).value for name, timing in case.timings.items()}
    return ", ".join(f"{name} {medians[name]:.3g} ms" for name in sorted(medians, key=medians.__getitem__))


def ticks_between(low: float, high: float) -> Sequence[float]:
    """Return round numbers (1, 2, 5 times powers of ten) from the last below `low` to the first above `high`."""
    steps = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
    inside = [step for step in steps if low < step < high]
    below = [step for step in steps if step <= low][-1:]
    above = [step for step in steps if step >= high][:1]
    return [float(f"{step:.6g}") for step in (*below, *inside, *above)]
