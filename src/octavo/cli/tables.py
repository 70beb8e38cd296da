"""Tables for the terminal. From certificates and releases to Rich tables; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from octavo.certify.certificate import Certificate
from octavo.certify.measures import MeasureRecord
from octavo.certify.wording import (
    interval_points,
    megabytes,
    metric_name,
    milliseconds,
    percent,
    signed_points,
    times,
)
from octavo.engines.plan import Plan
from octavo.types import Interval

# Narrower than this, a table shows the columns that the decision rests on.
WIDE = 112
_SEVERAL = "score"
_STYLES = {"pass": "bold green", "inconclusive": "bold yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cell: Callable[[Certificate], Text | str]
    wide_only: bool = False
    right: bool = True


def verdict_text(verdict: str) -> Text:
    """Return a verdict in its colour."""
    return Text(verdict, style=_STYLES.get(verdict, ""))


def rung_table(certificates: Sequence[Certificate], chosen: str | None, width: int) -> Table:
    """Return the ladder, one rung a line; the chosen one is marked."""

    def name(one: Certificate) -> Text:
        picked = one.rung == chosen
        first = (("▶ " if picked else "  ") + one.rung, "bold" if picked else "")
        return Text.assemble(first, "\n", (f"  {engine_name(one.engine_id)}", "dim"))

    columns = [
        _Column("rung\n  engine", name, right=False),
        _Column(
            f"{metric_name(certificates[0].metric)}\n95% interval",
            lambda one: _two(f"{100 * one.engine.value:.2f}", _bounds(one.engine)),
        ),
        _Column(
            "− teacher\npoints",
            lambda one: _two(signed_points(one.difference.value), interval_points(one.difference)),
        ),
        _Column("verdict", lambda one: verdict_text(one.verdict), right=False),
        _Column(
            "ms alone\nin 32s",
            lambda one: _two(milliseconds(one.latency_ms.batch1_p50), milliseconds(one.latency_ms.per_query_batch32)),
        ),
        _Column("× FP32\nPyTorch", lambda one: _ratio(one.speedup.torch_fp32)),
        _Column("× FP32\nOpenVINO", lambda one: _ratio(one.speedup.openvino_fp32), wide_only=True),
        _Column("size\nMB", lambda one: megabytes(one.model_bytes), wide_only=True),
        _Column("compute\nsaved", lambda one: _saved(one.compute_saved), wide_only=True),
    ]
    columns = [column for column in columns if width >= WIDE or not column.wide_only]
    table = _table(width)
    for column in columns:
        table.add_column(column.header, justify="right" if column.right else "left", no_wrap=True)
    for one in certificates:
        table.add_row(*(column.cell(one) for column in columns))
    return table


def measure_table(measures: Sequence[MeasureRecord], width: int) -> Table:
    """Return every measure of one certificate: those that decide with their verdicts, the others as reported."""
    table = _table(width)
    for header, right in (
        ("measure", False),
        ("teacher", True),
        ("engine", True),
        ("− teacher\npoints", True),
        ("verdict", False),
    ):
        table.add_column(header, justify="right" if right else "left", no_wrap=header != "measure")
    for one in measures:
        table.add_row(
            metric_name(one.name),
            f"{100 * one.teacher.value:.2f}",
            f"{100 * one.engine.value:.2f}",
            _two(signed_points(one.difference.value), interval_points(one.difference)),
            verdict_text(one.verdict) if one.verdict else Text("reported", style="dim"),
        )
    return table


def plan_table(plan: Plan, width: int) -> Table:
    """Return the engines that were measured, one a line, with the quartiles of their rounds; the choice is marked."""
    able = [one for one in plan.measured if not one.reason]
    sizes = list(able[0].ms_per_query)
    has_reference = any(one.times_fp32 for one in able)
    table = _table(width)
    table.add_column("engine", no_wrap=True)
    for size in sizes:
        table.add_column(f"ms a query\nin {size}s" if size > 1 else "ms a query\nalone", justify="right", no_wrap=True)
        if has_reference:
            table.add_column("× FP32", justify="right", no_wrap=True)
    for one in able:
        picked = one is plan.chosen
        cells: list[Text | str] = [Text(("▶ " if picked else "  ") + one.name, "bold" if picked else "")]
        for size in sizes:
            ms = one.ms_per_query[size]
            cells.append(_two(milliseconds(ms.median), f"{milliseconds(ms.low)}–{milliseconds(ms.high)}"))
            if has_reference:
                cells.append(times(one.times_fp32[size].median))
        table.add_row(*cells)
    return table


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """One line of a listing. `certificate` is None where it cannot be read, and `note` says why."""

    model: str
    version: str
    is_current: bool
    rung: str | None
    created: str | None
    size_bytes: int | None
    certificate: Certificate | None
    note: str


def release_table(lines: Sequence[ReleaseLine], width: int) -> Table:
    """Return the listing of a store; the current version of each model is marked."""
    table = _table(width)
    wide = width >= WIDE
    for header, right in (
        ("release", False),
        ("rung", False),
        ("verdict", False),
        (_metric_header(lines), True),
        ("− teacher\npoints", True),
    ):
        table.add_column(header, justify="right" if right else "left", no_wrap=True)
    table.add_column("ms in\n32s", justify="right", no_wrap=True)
    table.add_column("× FP32\nPyTorch", justify="right", no_wrap=True)
    if wide:
        table.add_column("MB", justify="right", no_wrap=True)
        table.add_column("created", no_wrap=True)
    for line in lines:
        table.add_row(*_release_cells(line, wide, names_metric=_metric_header(lines) == _SEVERAL))
    return table


def _metric_header(lines: Sequence[ReleaseLine]) -> str:
    """Name the one metric of a listing; where there are several, each line names its own."""
    names = {line.certificate.metric for line in lines if line.certificate is not None}
    return metric_name(names.pop()) if len(names) == 1 else _SEVERAL


def _release_cells(line: ReleaseLine, wide: bool, *, names_metric: bool) -> list[Text | str]:
    one = line.certificate
    name = Text(f"{'▶' if line.is_current else ' '} {line.model}/{line.version}", "bold" if line.is_current else "")
    cells: list[Text | str] = [name, line.rung or ""]
    if one is None:
        cells += [Text("broken", style="bold red"), "", "", "", ""]
    else:
        cells += [
            verdict_text(one.verdict),
            f"{metric_name(one.metric) if names_metric else ''} {100 * one.engine.value:.2f}".lstrip(),
            signed_points(one.difference.value),
            milliseconds(one.latency_ms.per_query_batch32),
            _ratio(one.speedup.torch_fp32),
        ]
    size = "" if line.size_bytes is None else megabytes(line.size_bytes)
    return [*cells, size, (line.created or "")[:16].replace("T", " ")] if wide else cells


def engine_name(engine_id: str) -> str:
    """Shorten an engine's id: 'openvino-2026.4.1/int8/f32' to 'openvino int8'."""
    backend, *rest = engine_id.split("/")
    return " ".join([backend.partition("-")[0], *rest[:1]])


def _table(width: int) -> Table:
    gap = 1 if width >= WIDE else 0  # beside the one that the box has
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")


def _two(first: str, second: str) -> Text:
    return Text.assemble(first, "\n", (second, "dim"))


def _bounds(interval: Interval) -> str:
    return f"{100 * interval.low:.2f}–{100 * interval.high:.2f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else times(value)


def _saved(share: float | None) -> str:
    return "" if share is None else percent(share)
