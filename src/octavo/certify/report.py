"""`report.html`: certificates for people, on one page without scripts or outside hosts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from octavo.certify.certificate import Certificate
from octavo.certify.report_page import page_html, reproduce_section
from octavo.certify.report_sections import (
    changes_section,
    comparison_section,
    latency_section,
    method_section,
    slices_section,
    traffic_section,
)
from octavo.certify.report_tables import badge
from octavo.certify.wording import (
    BASELINE_NAMES,
    count,
    interval_points,
    megabytes,
    metric_name,
    milliseconds,
    percent,
    point_means,
    points,
    signed_points,
    times,
)
from octavo.errors import InputError
from octavo.types import Verdict


def report_html(
    certificates: Sequence[Certificate],
    chosen: str | None,
    *,
    title: str,
    reproduce: str,
    notes: Sequence[str] = (),
) -> str:
    """Write the report of a ladder as one self-contained HTML page.

    Args:
        certificates: one per rung, in the order of the ladder.
        chosen: the rung that goes live; None where none does.
        title: of the page.
        reproduce: the commands that lead to the same report.
        notes: plain sentences that a reader should know, such as a budget that ran out.

    Raises:
        InputError: no certificates, or a chosen rung that is not among them.
    """
    featured = featured_certificate(certificates, chosen)
    pick = featured if chosen is not None else None
    return page_html(
        title=title,
        kind="compression report",
        subject=_subject(featured),
        headline=_headline(featured, pick, any(c.verdict is Verdict.PASS for c in certificates)),
        sections=[
            comparison_section(certificates, featured, pick),
            latency_section(featured),
            traffic_section(featured),
            changes_section(featured),
            slices_section(featured),
            method_section(featured, notes),
            reproduce_section(reproduce),
        ],
        colophon=_colophon(featured),
    )


def featured_certificate(certificates: Sequence[Certificate], chosen: str | None) -> Certificate:
    """Return the certificate of the chosen rung; with nothing chosen, that of the rung which came nearest.

    Raises:
        InputError: no certificates, or a chosen rung that is not among them.
    """
    if not certificates:
        raise InputError("A report needs at least one certificate.")
    if chosen is None:
        # Rather one that dev preferred, hence released.
        refused = [c for c in certificates if c.version and c.verdict is not Verdict.PASS]
        return max(refused or certificates, key=lambda c: c.difference.low)
    for certificate in certificates:
        if certificate.rung == chosen:
            return certificate
    rungs = ", ".join(c.rung for c in certificates)
    raise InputError(f"The chosen rung '{chosen}' has no certificate; there are: {rungs}.")


def speed_sentence(certificate: Certificate) -> str:
    """Say how fast the engine is beside the baselines that were measured with it."""
    c = certificate
    ratios = {"torch_fp32": c.speedup.torch_fp32, "openvino_fp32": c.speedup.openvino_fp32}
    parts = [_compared(ratio, BASELINE_NAMES[name]) for name, ratio in ratios.items() if ratio is not None]
    if not parts:
        return f"{milliseconds(c.latency_ms.per_query_batch32)} ms per {c.item} in batches of 32."
    sentence = f"{' and '.join(parts)}, per {c.item} in batches of 32"
    if c.compute_saved is not None and c.compute_saved > 0:
        sentence += f"; {percent(c.compute_saved)} of the compute saved"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _subject(certificate: Certificate) -> str:
    version = f" {certificate.version}" if certificate.version else ""
    return f"{certificate.model}{version} · {certificate.task}"


def _headline(featured: Certificate, pick: Certificate | None, any_pass: bool) -> str:
    evidence = _evidence(featured)
    if pick is None:
        evidence = f"The nearest is <b>{escape(featured.rung)}</b>: {evidence}"
    return "\n".join(
        [
            badge(featured.verdict) if pick else "",
            f"<h1>{_verdict_sentence(featured, pick is not None, any_pass)}</h1>",
            f'<p class="lead">{evidence}</p>',
            f'<p class="lead">{escape(speed_sentence(featured))}</p>',
            _key_figures(featured),
        ]
    )


def _evidence(certificate: Certificate) -> str:
    c = certificate
    if c.measures and c.reason != c.measures[0].reason:
        return escape(c.reason)  # another measure decided, which this sentence names
    of_metric = f" of {escape(metric_name(c.metric))}" if point_means(c.metric) else ""
    return (
        f"{signed_points(c.difference.value)} points{of_metric} {interval_points(c.difference)} against a margin of "
        f"{points(c.margin)}, on {escape(count(c.rows, f'held-out {c.unit}'))}."
    )


def _verdict_sentence(certificate: Certificate, chosen: bool, any_pass: bool) -> str:
    name = "INT8" if certificate.rung.startswith("int8") else escape(certificate.rung)
    if not chosen:
        return (
            "Some rungs are as good as the model, but none was chosen."
            if any_pass
            else "No rung is proven to be as good as the model that it would replace."
        )
    if certificate.verdict is Verdict.PASS:
        return f"{name} answers as well as the model it replaces."
    if certificate.verdict is Verdict.FAIL:
        return f"{name} answers worse than the model it would replace."
    needed = certificate.rows_needed
    more = f": it takes about {escape(count(needed, certificate.unit))} to tell" if needed else ""
    return f"{name} is not yet proven to be as good{more}."


def _compared(ratio: float, baseline: str) -> str:
    if ratio >= 1.05:
        return f"{times(ratio)} faster than {baseline}"
    if ratio > 0.95:
        return f"as fast as {baseline}"
    return f"slower than {baseline} ({times(ratio)} its speed)"


def _key_figures(certificate: Certificate) -> str:
    c = certificate
    figures = [
        (
            f"{signed_points(c.difference.value)} <small>points</small>",
            f"{metric_name(c.metric)}, engine − teacher",
        ),
        (percent(c.agreement, 2), c.agreement_means),
        (
            f"{milliseconds(c.latency_ms.per_query_batch32)} <small>ms</small>",
            f"per {c.item}, in batches of 32",
        ),
        (f"{milliseconds(c.latency_ms.batch1_p50)} <small>ms</small>", f"single {c.item}, median"),
        (f"{megabytes(c.model_bytes)} <small>MB</small>", "model on disk"),
    ]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for value, name in figures)
    return f'<dl class="figures">{cells}</dl>'


def _colophon(certificate: Certificate) -> str:
    return (
        f"Written by Octavo from certificates of {escape(certificate.created)}; the numbers are in "
        "<code>certificate.json</code> beside this page."
    )
