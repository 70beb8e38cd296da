"""`report.html`: certificates for people, on one page without scripts or outside hosts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from octavo.certify.certificate import Certificate
from octavo.certify.report_plots import (
    Latencies,
    Mark,
    Point,
    Span,
    forest,
    latency_histogram,
    scatter,
)
from octavo.certify.report_tables import badge, fact_list, flip_table, rung_table, slice_table
from octavo.certify.wording import (
    BASELINE_NAMES,
    count,
    interval_points,
    megabytes,
    milliseconds,
    percent,
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
    pick = _picked(certificates, chosen)
    # With nothing chosen, the page looks closer at the rung that came nearest: one that dev preferred, hence released.
    refused = [c for c in certificates if c.version and c.verdict is not Verdict.PASS]
    featured = pick or max(refused or certificates, key=lambda c: c.difference.low)
    sections = [
        _comparison_section(certificates, featured, pick),
        _latency_section(featured),
        _changes_section(featured),
        _slices_section(featured),
        _method_section(featured, notes),
        _reproduce_section(reproduce),
    ]
    return Template(_resource("report.html")).substitute(
        title=escape(title),
        style=_resource("report.css"),
        subject=f"<bdi>{escape(_subject(featured))}</bdi>",
        headline=_headline(featured, pick, any(c.verdict is Verdict.PASS for c in certificates)),
        sections="\n".join(sections),
        colophon=_colophon(featured),
    )


def _picked(certificates: Sequence[Certificate], chosen: str | None) -> Certificate | None:
    if not certificates:
        raise InputError("A report needs at least one certificate.")
    if chosen is None:
        return None
    for certificate in certificates:
        if certificate.rung == chosen:
            return certificate
    rungs = ", ".join(c.rung for c in certificates)
    raise InputError(f"The chosen rung '{chosen}' has no certificate; there are: {rungs}.")


def _subject(certificate: Certificate) -> str:
    version = f" {certificate.version}" if certificate.version else ""
    return f"{certificate.model}{version} · {certificate.task}"


def _headline(featured: Certificate, pick: Certificate | None, any_pass: bool) -> str:
    c = featured
    evidence = (
        f"{signed_points(c.difference.value)} points {interval_points(c.difference)} against a margin of "
        f"{points(c.margin)}, on {count(c.rows, 'held-out row')}."
    )
    if pick is None:
        evidence = f"The nearest is <b>{escape(c.rung)}</b>: {evidence}"
    return "\n".join(
        [
            badge(c.verdict) if pick else "",
            f"<h1>{_verdict_sentence(c, pick is not None, any_pass)}</h1>",
            f'<p class="lead">{evidence}</p>',
            f'<p class="lead">{speed_sentence(c)}</p>',
            _key_figures(c),
        ]
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
    more = f": it takes about {count(needed, 'row')} to tell" if needed else ""
    return f"{name} is not yet proven to be as good{more}."


def speed_sentence(certificate: Certificate) -> str:
    """Say how fast the engine is beside the baselines that were measured with it."""
    c = certificate
    ratios = {"torch_fp32": c.speedup.torch_fp32, "openvino_fp32": c.speedup.openvino_fp32}
    parts = [_compared(ratio, BASELINE_NAMES[name]) for name, ratio in ratios.items() if ratio is not None]
    if not parts:
        return f"{milliseconds(c.latency_ms.per_query_batch32)} ms per query in batches of 32."
    sentence = f"{' and '.join(parts)}, per query in batches of 32"
    if c.compute_saved is not None and c.compute_saved > 0:
        sentence += f"; {percent(c.compute_saved)} of the compute saved"
    return f"{sentence[0].upper()}{sentence[1:]}."


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
            f"{escape(c.metric)}, engine − teacher",
        ),
        (percent(c.agreement, 2), "of the answers are the same"),
        (
            f"{milliseconds(c.latency_ms.per_query_batch32)} <small>ms</small>",
            "per query, in batches of 32",
        ),
        (f"{milliseconds(c.latency_ms.batch1_p50)} <small>ms</small>", "single query, median"),
        (f"{megabytes(c.model_bytes)} <small>MB</small>", "model on disk"),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for value, name in figures)
    return f'<dl class="figures">{cells}</dl>'


def _comparison_section(certificates: Sequence[Certificate], featured: Certificate, pick: Certificate | None) -> str:
    rungs = [Point(c.rung, c.latency_ms.per_query_batch32, c.engine.value, _mark(c), c is pick) for c in certificates]
    baselines = [
        Point(BASELINE_NAMES[name], latency.per_query_batch32, featured.teacher.value, "baseline")
        for name, latency in featured.baselines.items()
        # These run the teacher's own weights: its score is theirs. One that is a rung itself is drawn as that rung.
        if name in BASELINE_NAMES and all(latency != c.latency_ms for c in certificates)
    ]
    teacher = ", □ the teacher" if baselines else ""
    spans = [Span(c.rung, c.difference, _mark(c), c is pick) for c in certificates]
    return _section(
        "As good, and faster?",
        "Each rung of the ladder is one way to make the model cheaper. A rung may go live if the whole "
        "interval of its difference lies above the margin.",
        _figure(
            scatter([*rungs, *baselines], featured.teacher.value, featured.margin, metric=featured.metric),
            f"Left is faster, up is better. ● passes, ○ inconclusive, ✕ fails{teacher}. "
            "The shaded band is what the margin allows to lose.",
        ),
        _figure(
            forest(spans, featured.margin),
            f"Engine − teacher in points on the same {count(featured.rows, 'held-out row')}, with the 95% "
            "interval of the paired bootstrap. The shaded side is refused.",
        ),
        rung_table(certificates, pick),
    )


def _mark(certificate: Certificate) -> Mark:
    return certificate.verdict.value


def _latency_section(certificate: Certificate) -> str:
    c = certificate
    latencies = {"engine": c.latency_ms, **c.baselines}
    names = {"engine": c.rung, **BASELINE_NAMES}
    runners = [
        Latencies(
            names.get(name, name),
            counts,
            latencies[name].batch1_p50,
            latencies[name].batch1_p99,
            name == "engine",
        )
        for name, counts in c.latency_histogram.counts.items()
        if name in latencies and any(counts)
    ]
    if not runners:
        return ""
    runners.sort(key=lambda runner: (not runner.chosen, runner.p50_ms))
    return _section(
        "How long one query takes",
        "From text to answer, tokenization included. The engines took turns on the same texts, so that a "
        "busy moment of the machine slowed all of them.",
        _figure(
            latency_histogram(runners, c.latency_histogram.edges_ms),
            f"{runners[0].samples:,} single queries each. "
            "The tall line is the median, the short one the 99th percentile.",
        ),
    )


def _changes_section(certificate: Certificate) -> str:
    c = certificate
    changed = c.flip_count - c.mcnemar.lost - c.mcnemar.gained
    if not c.flip_count:
        return _section("What changed", f"Nothing: all {count(c.rows, 'row')} are answered as by the teacher.")
    more = f" The first {len(c.flips)} are listed." if c.flip_count > len(c.flips) else ""
    return _section(
        "What changed",
        f"{c.flip_count:,} of {count(c.rows, 'row')} are answered differently: {c.mcnemar.lost:,} lost, "
        f"{c.mcnemar.gained:,} gained, {max(changed, 0):,} as wrong as before. If losing and gaining were "
        f"equally likely, such an imbalance would come up with a probability of {c.mcnemar.p_value:.2g} "
        f"(exact McNemar test).{more}",
        flip_table(c.flips),
    )


def _slices_section(certificate: Certificate) -> str:
    c = certificate
    shift = c.score_shift
    return _section(
        "Where it changed",
        "The same comparison in parts, worst first. Parts have few rows and wide intervals: they show where "
        "to look, and decide nothing.",
        "<h3>By label</h3>",
        slice_table(c.slices.label, "Label"),
        "<h3>By length</h3>",
        slice_table(c.slices.length, "Length"),
        "<h3>Confidence</h3>",
        fact_list(
            {
                "Calibration error": f"{percent(c.calibration.engine_ece, 2)}, teacher "
                f"{percent(c.calibration.teacher_ece, 2)} <small>(expected, 15 bins)</small>",
                "Shift of a probability": f"{points(shift.mean)} points on average, {points(shift.max)} at most",
                "Probability mass moved": f"{percent(shift.total_variation, 2)} per row",
            }
        ),
    )


def _method_section(certificate: Certificate, notes: Sequence[str]) -> str:
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return _section(
        "How it was measured",
        escape(certificate.reason),
        fact_list(_facts(certificate)),
        f'<ul class="notes">{listed}</ul>' if listed else "",
    )


def _facts(certificate: Certificate) -> dict[str, str]:
    c, machine = certificate, certificate.hardware
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
    memory = f", {machine.memory_bytes / 2**30:.0f} GiB memory" if machine.memory_bytes else ""
    facts = {
        "Decision": "paired bootstrap, 10,000 resamples, 95% two-sided, non-inferiority margin "
        f"{points(c.margin)} points, {count(c.rows, 'held-out row')}",
        "Engine": escape(c.engine_id),
        "Alone and in a batch": _determinism(c),
        "Processor": f"{escape(machine.cpu)}, {count(machine.logical_cores, 'core')}{memory}",
        "Instruction sets": escape(", ".join(machine.flags)) or "none that matter",
        "System": f"{escape(machine.system)}, Python {escape(machine.python)}",
        "Packages": escape(versions),
        "Seeds": escape(", ".join(f"{name} {seed}" for name, seed in sorted(c.seeds.items()))),
        "Chosen on the development rows": escape(
            ", ".join(f"{name}: {value}" for name, value in sorted(c.selection.items()))
        ),
        "sha256 of the weights": f"<code>{escape(c.sha256.weights)}</code>",
        "sha256 of the data": f"<code>{escape(c.sha256.data)}</code>",
        "sha256 of the engine": f"<code>{escape(c.sha256.engine)}</code>",
    }
    return {name: value for name, value in facts.items() if value}


def _determinism(certificate: Certificate) -> str:
    found = certificate.determinism
    if found is None:
        return "not compared"
    return (
        f"{found.identical_answers:,} of {count(found.rows, 'row')} get the same answer; "
        f"logits differ by {found.max_difference:.2g} at most"
    )


def _reproduce_section(reproduce: str) -> str:
    return _section(
        "Reproduce it",
        "The same recipe, seed and machine give the same release.",
        f"<pre><code>{escape(reproduce.strip())}</code></pre>",
    )


def _colophon(certificate: Certificate) -> str:
    return (
        f"Written by Octavo from certificates of {escape(certificate.created)}; the numbers are in "
        "<code>certificate.json</code> beside this page."
    )


def _section(title: str, intro: str, *parts: str) -> str:
    return f'<section>\n<h2>{title}</h2>\n<p class="intro">{intro}</p>\n{"".join(parts)}\n</section>'


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _resource(name: str) -> str:
    return resources.files("octavo.certify").joinpath(name).read_text(encoding="utf-8")
