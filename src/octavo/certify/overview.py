"""One page over several reports: every model of a search stack with its verdict. Knows certificates, no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

from octavo.certify.certificate import Certificate
from octavo.certify.plots.intervals import interval_bar
from octavo.certify.report import featured_certificate
from octavo.certify.report_page import note_list, page_html, reproduce_section, section
from octavo.certify.report_tables import badge, overview_table, user_text
from octavo.certify.wording import (
    count,
    heading,
    interval_points,
    megabytes,
    metric_name,
    milliseconds,
    percent,
    points,
    score,
    signed_points,
    times,
)
from octavo.errors import InputError

_BAR = 300


@dataclass(frozen=True, slots=True)
class OverviewEntry:
    """One model of the stack.

    Attributes:
        name: of the model.
        what: it does, in a few words.
        href: of its report, relative to the page.
        certificates: one per rung.
        chosen: the rung that goes live; None where none does.
    """

    name: str
    what: str
    href: str
    certificates: list[Certificate]
    chosen: str | None


def overview_html(entries: Sequence[OverviewEntry], *, title: str, reproduce: str, notes: Sequence[str] = ()) -> str:
    """Write the overview as one self-contained HTML page.

    Args:
        entries: one per model, in the order in which a query meets them.
        title: of the page.
        reproduce: the commands that lead to the same page.
        notes: plain sentences that a reader should know.

    Raises:
        InputError: no entries, one without certificates, a chosen rung without one, or a report on another host.
    """
    if not entries:
        raise InputError("An overview needs at least one model.")
    for entry in entries:
        _check_beside(entry.href)
    featured = [featured_certificate(entry.certificates, entry.chosen) for entry in entries]
    shown = list(zip(entries, featured, strict=True))
    return page_html(
        title=title,
        kind="search stack",
        subject=title,
        headline=_headline(entries, featured),
        sections=[
            f'<section class="cards">{"".join(_card(entry, c) for entry, c in shown)}</section>',
            section(
                "Side by side",
                "Engine and teacher on the same held-out data; points are hundredths of each model's metric. "
                "Times are per item in batches of 32, from text to answer.",
                overview_table([(entry.name, entry.href, c) for entry, c in shown]),
                note_list(notes),
            ),
            reproduce_section(reproduce),
        ],
        colophon=f"Written by Octavo from certificates of {escape(max(c.created for c in featured))}; "
        "each report has its numbers in <code>certificate.json</code> beside it.",
    )


def _check_beside(href: str) -> None:
    parts = urlsplit(href)
    if not href or parts.scheme or parts.netloc:
        raise InputError(f"A report is linked by a path beside the overview, not by '{href}'.")


def _headline(entries: Sequence[OverviewEntry], featured: Sequence[Certificate]) -> str:
    live, models = sum(entry.chosen is not None for entry in entries), len(entries)
    verdict = f"{live} of {count(models, 'model')} {'goes' if live == 1 else 'go'} live in place of the teacher."
    if live == models:
        verdict = (
            "The model answers as well as the one it replaces."
            if models == 1
            else f"All {models} models answer as well as the ones they replace."
        )
    return f'<h1>{verdict}</h1>\n<p class="lead">{_speed_range(featured)}</p>\n<p class="lead">{_where(featured)}</p>'


def _speed_range(featured: Sequence[Certificate]) -> str:
    ratios = sorted(c.speedup.torch_fp32 for c in featured if c.speedup.torch_fp32 is not None)
    if not ratios:
        return "Each verdict is a paired comparison with the teacher, on the engine that serves."
    extent = " to ".join(dict.fromkeys((times(ratios[0]), times(ratios[-1]))))
    return f"{extent} the speed of PyTorch FP32. Each verdict is a paired comparison, on the engine that serves."


def _where(featured: Sequence[Certificate]) -> str:
    machines = dict.fromkeys(f"{c.hardware.cpu}, {count(c.hardware.logical_cores, 'core')}" for c in featured)
    return f"Measured on {escape('; '.join(machines))}."


def _card(entry: OverviewEntry, certificate: Certificate) -> str:
    c = certificate
    return (
        "<article>"
        f'<p class="task">{escape(c.task)}{badge(c.verdict)}</p>'
        f'<h2><a href="{escape(entry.href)}">{user_text(entry.name)}</a></h2>'
        f"<p>{user_text(entry.what)}</p>"
        f'<p class="metric"><span>{escape(heading(metric_name(c.metric)))}</span> '
        f"{score(c.teacher.value, c.metric)} → <b>{score(c.engine.value, c.metric)}</b></p>"
        f'<p class="gap">{signed_points(c.difference.value)} points {interval_points(c.difference)}, '
        f"margin {points(c.margin)}</p>{interval_bar(c.difference, _reach(c), margin=c.margin, width=_BAR)}"
        f"{_other_gates(c)}{_figures(c)}"
        f'<p class="rung">{escape(c.rung)}{"" if entry.chosen else ", not live"} · '
        f"{escape(count(c.rows, f'held-out {c.unit}'))}</p>"
        "</article>"
    )


def _other_gates(certificate: Certificate) -> str:
    return "".join(
        f'<p class="also">{escape(heading(metric_name(m.name)))}: {signed_points(m.difference.value)} points '
        f"{interval_points(m.difference)} {badge(m.verdict)}</p>"
        for m in certificate.measures[1:]
        if m.verdict
    )


def _reach(certificate: Certificate) -> float:
    difference = certificate.difference
    return 1.1 * max(abs(difference.low), abs(difference.high), 1.5 * certificate.margin)


def _figures(certificate: Certificate) -> str:
    c = certificate
    figures = {
        "vs PyTorch FP32": None if c.speedup.torch_fp32 is None else times(c.speedup.torch_fp32),
        "vs OpenVINO FP32": None if c.speedup.openvino_fp32 is None else times(c.speedup.openvino_fp32),
        f"ms per {c.item}": milliseconds(c.latency_ms.per_query_batch32),
        "MB on disk": megabytes(c.model_bytes),
        "compute saved": None if c.compute_saved is None else percent(c.compute_saved),
        c.agreement_means: percent(c.agreement, 1),
    }
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in figures.items() if v is not None)
    return f"<dl>{cells}</dl>"
