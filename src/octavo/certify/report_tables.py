"""The report's tables as HTML. Knows certificates; decides nothing. All text from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from octavo.certify.certificate import Certificate, CoreCost
from octavo.certify.flips import Flip
from octavo.certify.measures import MeasureRecord
from octavo.certify.plots.intervals import interval_bar
from octavo.certify.slices import Slice
from octavo.certify.wording import (
    count,
    heading,
    interval_points,
    megabytes,
    metric_name,
    milliseconds,
    percent,
    plural,
    score,
    signed_points,
    times,
)
from octavo.types import Interval, Verdict

_VISIBLE_FLIPS = 12
_VISIBLE_SLICES = 10
_BADGES = {
    Verdict.PASS: "✓ pass",
    Verdict.FAIL: "✕ fail",
    Verdict.INCONCLUSIVE: "? inconclusive",
}
_OUTCOME_CLASSES = {"lost": "fail", "gained": "pass", "changed": "inconclusive"}


def badge(verdict: Verdict) -> str:
    """Return the verdict as a coloured word; the sign before it stands in for the colour."""
    return f'<span class="badge {verdict}">{_BADGES[verdict]}</span>'


def user_text(text: str) -> str:
    """Escape text from outside, and keep its direction (Arabic, Hebrew) from spilling over."""
    return f'<bdi dir="auto">{escape(text)}</bdi>'


def rung_table(certificates: Sequence[Certificate], chosen: Certificate | None) -> str:
    """One row per rung: is it as good, how fast is it, how large."""
    head = _head(
        ("Rung", ""),
        ("Verdict", ""),
        (heading(metric_name(certificates[0].metric)), "number"),
        ("Difference, points", "number"),
        (f"ms per {certificates[0].item}", "number"),
        ("vs PyTorch FP32", "number"),
        ("vs OpenVINO FP32", "number"),
        ("Saved", "number"),
        ("MB", "number"),
    )
    rows = (_rung_row(c, c is chosen) for c in certificates)
    return f'<div class="rungs">{_table(head, rows, "All rungs of the ladder")}</div>'


def overview_table(models: Sequence[tuple[str, str, Certificate]]) -> str:
    """One row per model: its name, the address of its report, and its certificate."""
    head = _head(
        ("Model", ""),
        ("Verdict", ""),
        ("Metric", ""),
        ("Engine", "number"),
        ("Difference, points", "number"),
        ("vs PyTorch FP32", "number"),
        ("vs OpenVINO FP32", "number"),
        ("ms", "number"),
        ("MB", "number"),
    )
    return _table(head, (_overview_row(*model) for model in models), "All models")


def measure_table(measures: Sequence[MeasureRecord]) -> str:
    """One row per measure: both models, the difference, and whether it decides."""
    head = _head(
        ("Measure", ""),
        ("Teacher", "number"),
        ("Engine", "number"),
        ("Difference, points", "number"),
        ("Verdict", ""),
    )
    return _table(head, map(_measure_row, measures), "All measures")


def cost_table(cost: CoreCost, names: Mapping[str, str]) -> str:
    """One row per engine: what a query and 100 million of them keep cores busy for, and what the first one saves."""
    head = _head(
        ("Engine", ""),
        ("ms of a core, alone", "number"),
        ("in 32s", "number"),
        ("Core-hours, alone", "number"),
        ("in 32s", "number"),
        ("Saved, alone", "number"),
        ("in 32s", "number"),
    )
    return _table(head, (_cost_row(name, names.get(name, name), cost) for name in cost.core_time), "What traffic costs")


def _cost_row(name: str, shown: str, cost: CoreCost) -> str:
    time, saved = cost.core_time[name], cost.saved.get(name)
    shares = [_number("–")] * 2 if saved is None else [_share(saved.alone), _share(saved.batched)]
    return (
        f'<tr><th scope="row">{escape(shown)}</th>'
        f"{_number(milliseconds(time.alone_ms))}{_number(milliseconds(time.batched_ms))}"
        f"{_number(f'{time.core_hours_per_100m_alone:,.1f}')}{_number(f'{time.core_hours_per_100m_batched:,.1f}')}"
        f"{''.join(shares)}</tr>"
    )


def _share(saved: Interval) -> str:
    return _number(percent(saved.value, 1), f"{percent(saved.low, 1)} to {percent(saved.high, 1)}")


def flip_table(flips: Sequence[Flip]) -> str:
    """Units that are answered differently, the first dozen open, the others folded away; nothing for none."""
    if not flips:
        return ""
    head = _head(("Text", ""), ("Right answer", ""), ("Teacher", ""), ("Engine", ""), ("Outcome", ""))
    return _folded(head, [_flip_row(flip) for flip in flips], _VISIBLE_FLIPS, "Answers that changed")


def slice_table(slices: Sequence[Slice], kind: str, *, metric: str, unit: str) -> str:
    """Slices, worst first, with their intervals on one axis."""
    head = _head(
        (kind, ""),
        (heading(plural(unit)), "number"),
        ("Teacher", "number"),
        ("Engine", "number"),
        ("Points", "number"),
        ("95% interval", ""),
    )
    reach = max((abs(s.difference.value) for s in slices), default=0.0)
    reach = max(2.5 * reach, _median_width(slices), 0.005)
    rows = [_slice_row(s, reach, metric) for s in slices]
    return _folded(head, rows, _VISIBLE_SLICES, f"Difference by {kind.lower()}")


def fact_list(facts: Mapping[str, str]) -> str:
    """Names and values, one a line; values are HTML already."""
    return f'<dl class="facts">{"".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items())}</dl>'


def _rung_row(certificate: Certificate, chosen: bool) -> str:
    c, latency = certificate, certificate.latency_ms
    return (
        f"<tr{' class=chosen' if chosen else ''}>"
        f'<th scope="row">{escape(c.rung)}<small>{escape(c.engine_id)}</small></th>'
        f"<td>{badge(c.verdict)}</td>"
        f"{_number(score(c.engine.value, c.metric), _bounds(c.engine))}"
        f"{_number(signed_points(c.difference.value), interval_points(c.difference))}"
        f"{_number(milliseconds(latency.per_query_batch32), f'{milliseconds(latency.batch1_p50)} single')}"
        f"{_ratio(c.speedup.torch_fp32, c.speedup_batch1.torch_fp32)}"
        f"{_ratio(c.speedup.openvino_fp32, c.speedup_batch1.openvino_fp32)}"
        f"{_number('–' if c.compute_saved is None else percent(c.compute_saved))}"
        f"{_number(megabytes(c.model_bytes))}</tr>"
    )


def _overview_row(name: str, href: str, certificate: Certificate) -> str:
    c = certificate
    return (
        f'<tr><th scope="row"><a href="{escape(href)}">{user_text(name)}</a><small>{escape(c.rung)}</small></th>'
        f"<td>{badge(c.verdict)}</td>"
        f"<td>{escape(metric_name(c.metric))}<small>{escape(count(c.rows, c.unit))}</small></td>"
        f"{_number(score(c.engine.value, c.metric), f'teacher {score(c.teacher.value, c.metric)}')}"
        f"{_number(signed_points(c.difference.value), interval_points(c.difference))}"
        f"{_number(*_against_torch(c))}"
        f"{_ratio(c.speedup.openvino_fp32, c.speedup_batch1.openvino_fp32)}"
        f"{_number(milliseconds(c.latency_ms.per_query_batch32), f'per {escape(c.item)}')}"
        f"{_number(megabytes(c.model_bytes))}</tr>"
    )


def _against_torch(certificate: Certificate) -> tuple[str, str]:
    ratio, saved = certificate.speedup.torch_fp32, certificate.compute_saved
    return "–" if ratio is None else times(ratio), "" if saved is None else f"{percent(saved)} saved"


def _measure_row(measure: MeasureRecord) -> str:
    verdict = badge(measure.verdict) if measure.verdict else '<span class="muted">reported</span>'
    return (
        f'<tr><th scope="row">{escape(heading(metric_name(measure.name)))}</th>'
        f"{_number(score(measure.teacher.value, measure.name), _bounds(measure.teacher))}"
        f"{_number(score(measure.engine.value, measure.name), _bounds(measure.engine))}"
        f"{_number(signed_points(measure.difference.value), interval_points(measure.difference))}"
        f"<td>{verdict}</td></tr>"
    )


def _bounds(interval: Interval) -> str:
    return f"{interval.low * 100:.1f} to {interval.high * 100:.1f}"


def _ratio(batched: float | None, single: float | None) -> str:
    if batched is None or single is None:
        return _number("–")
    return _number(times(batched), f"{times(single)} single")


def _flip_row(flip: Flip) -> str:
    return (
        f'<tr><td class="text">{user_text(flip.text)}</td><td>{user_text(flip.label)}</td>'
        f"<td>{user_text(flip.teacher)}{_sure(flip.teacher_confidence)}</td>"
        f"<td>{user_text(flip.engine)}{_sure(flip.engine_confidence)}</td>"
        f'<td><span class="badge {_OUTCOME_CLASSES[flip.outcome]}">{flip.outcome}</span></td></tr>'
    )


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f"<small>{percent(confidence)} sure</small>"


def _slice_row(part: Slice, reach: float, metric: str) -> str:
    return (
        f'<tr><th scope="row">{user_text(part.name)}</th>{_number(f"{part.rows:,}")}'
        f"{_number(score(part.teacher, metric, 1))}{_number(score(part.engine, metric, 1))}"
        f"{_number(signed_points(part.difference.value), interval_points(part.difference))}"
        f'<td class="bar">{interval_bar(part.difference, reach)}</td></tr>'
    )


def _median_width(slices: Sequence[Slice]) -> float:
    """Half the width of the middle interval: an axis that most fit on, whatever the smallest slice."""
    widths = sorted((s.difference.high - s.difference.low) / 2 for s in slices)
    return widths[len(widths) // 2] if widths else 0.0


def _number(content: str, small: str = "") -> str:
    note = f"<small>{small}</small>" if small else ""
    return f'<td class="number">{content}{note}</td>'


def _head(*columns: tuple[str, str]) -> str:
    cells = "".join(f'<th scope="col"{f" class={css}" if css else ""}>{escape(name)}</th>' for name, css in columns)
    return f"<thead><tr>{cells}</tr></thead>"


def _table(head: str, rows: Iterable[str], label: str) -> str:
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"<table>{head}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _folded(head: str, rows: Sequence[str], visible: int, label: str) -> str:
    shown = _table(head, rows[:visible], label)
    if len(rows) <= visible:
        return shown
    rest = _table(head, rows[visible:], f"{label}, continued")
    return f"{shown}<details><summary>Show {len(rows) - visible} more</summary>{rest}</details>"
