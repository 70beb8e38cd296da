"""What was measured as Markdown: a table for each case, the contenders that do not run, and the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.engines.cell import CaseResult, CellResult
from bench.engines.peak import INT8_LOOPS, limit_of
from bench.engines.summary import NATIVE, Goal, fastest, share_of_peak
from bench.engines.timing import median_of, ratio_of
from octavo.types import Interval


def report(cells: Sequence[CellResult], goals: Sequence[Goal], header: str) -> str:
    """Return the whole page."""
    parts = [header, goal_table(goals)]
    for cell in cells:
        parts.append(f"## {cell.cell.title}")
        parts += [f"### {case.case.title}\n\n{case_table(cell, case)}" for case in cell.cases]
        if cell.missing:
            reasons = "\n".join(f"| {name} | {_escaped(reason)} |" for name, reason in cell.missing.items())
            parts.append(f"Does not run here:\n\n| contender | reason |\n|---|---|\n{reasons}")
    return "\n\n".join(parts) + "\n"


def goal_table(goals: Sequence[Goal]) -> str:
    """Return goals and what was reached."""
    lines = ["| goal | target | reached | |", "|---|---|---|---|"]
    for goal in goals:
        reached = "–" if goal.reached is None else f"{goal.reached:.3g}"
        lines.append(f"| {goal.name} | {'≤' if goal.is_limit else '≥'} {goal.target:g} | {reached} | {goal.verdict} |")
    return "\n".join(lines)


def case_table(cell: CellResult, result: CaseResult) -> str:
    """Return a case's contenders, the fastest first; ratios are medians of the ratios within rounds."""
    if not result.timings:
        return "Nothing ran."
    ranked = sorted(result.timings, key=lambda name: median_of(result.timings[name].rounds_ms).value)
    base = NATIVE if NATIVE in result.timings else fastest(result, ranked)
    rounds = len(result.timings[base].rounds_ms)
    peaks = ", ".join(f"{name} {median_of(values).value:,.0f} GOP/s" for name, values in result.peaks.items())
    limit = limit_of(INT8_LOOPS, result.peaks) or "INT8"
    lines = [
        f"{rounds} rounds of {result.queries} texts, {result.mean_tokens:.1f} tokens on average. "
        f"Limit in these rounds: {peaks or 'not measured'}.",
        "",
        f"| contender | ms per query [95%] | p99 of a call, ms | times {base} | of the {limit} peak | cosine to FP32 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(cell, result, name, base) for name in ranked]
    lines += [f"| {name} | {_escaped(reason)} | | | | |" for name, reason in result.failed.items()]
    return "\n".join(lines)


def _row(cell: CellResult, result: CaseResult, name: str, base: str) -> str:
    timing, share = result.timings[name], share_of_peak(result, name)
    ratio = ratio_of(timing.rounds_ms, result.timings[base].rounds_ms)
    cosine = f"{cell.cosines[name]:.4f}" if name in cell.cosines else "other head"
    return (
        f"| {name} | {_with_bounds(median_of(timing.rounds_ms), 3)} | {timing.p99_ms:.2f} | {_with_bounds(ratio, 2)} "
        f"| {f'{share.value:.0%}' if share else '–'} | {cosine} |"
    )


def _with_bounds(value: Interval, digits: int) -> str:
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def missing_lines(cells: Sequence[CellResult]) -> Iterator[str]:
    """Yield once each contender that does not run here, with its reason."""
    seen = set()
    for cell in cells:
        for name, reason in cell.missing.items():
            if (name, reason) not in seen:
                seen.add((name, reason))
                yield f"{name}: {reason}"
