"""Histograms of single-query latencies, one below the other over the same axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.certify.plots.drawing import Drawing, for_both_widths, log_ticks, logarithmic
from octavo.certify.wording import milliseconds


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


def latency_histogram(runners: Sequence[Latencies], edges_ms: Sequence[float], *, item: str = "query") -> str:
    """Draw one histogram per runner over a shared logarithmic axis of milliseconds."""
    described = "; ".join(
        f"{r.name}: median {milliseconds(r.p50_ms)} ms, 99th percentile {milliseconds(r.p99_ms)} ms" for r in runners
    )

    def draw(width: int) -> str:
        drawing = _histogram(runners, edges_ms, f"ms per single {item} (log) → slower", width)
        return drawing.svg(f"latency-{width}", f"Latency of each single {item}", described)

    return for_both_widths(draw)


def _histogram(runners: Sequence[Latencies], edges_ms: Sequence[float], axis: str, width: int) -> Drawing:
    narrow = width < 500
    pitch, tall = (104, 60) if narrow else (84, 58)
    names = 6 if narrow else 150
    drawing = Drawing(width, 8 + pitch * len(runners) + 44)
    bottom = 8 + pitch * len(runners)
    x = logarithmic(edges_ms[0], edges_ms[-1], names, width - 12)
    for tick in log_ticks(edges_ms[0], edges_ms[-1], narrow):
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
