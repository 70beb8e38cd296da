"""The report's sections, in the order of the page. Knows certificates; decides nothing.

All text from outside is escaped here or in the tables. A section or table without data is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from octavo.certify.certificate import Certificate
from octavo.certify.plots.drawing import Mark
from octavo.certify.plots.intervals import Span, forest
from octavo.certify.plots.latencies import Latencies, latency_histogram
from octavo.certify.plots.scatter import Point, scatter
from octavo.certify.report_page import figure, note_list, section
from octavo.certify.report_tables import cost_table, fact_list, flip_table, measure_table, rung_table, slice_table
from octavo.certify.traffic import QUERIES as CORE_QUERIES
from octavo.certify.wording import (
    BASELINE_NAMES,
    count,
    metric_name,
    percent,
    plural,
    point_means,
    points,
)


def comparison_section(certificates: Sequence[Certificate], featured: Certificate, pick: Certificate | None) -> str:
    """Return what was gained and what it cost, over all rungs."""
    c = featured
    rungs = [Point(c.rung, c.latency_ms.per_query_batch32, c.engine.value, _mark(c), c is pick) for c in certificates]
    baselines = [
        Point(BASELINE_NAMES[name], latency.per_query_batch32, featured.teacher.value, "baseline")
        for name, latency in featured.baselines.items()
        # These run the teacher's own weights: its score is theirs. One that is a rung itself is drawn as that rung.
        if name in BASELINE_NAMES and all(latency != c.latency_ms for c in certificates)
    ]
    teacher = ", □ the teacher" if baselines else ""
    gates = sum(measure.gates for measure in c.measures)
    each = " That holds for every measure that decides." if gates > 1 else ""
    any_of = " in one of them" if gates > 1 else ""
    return section(
        "As good, and faster?",
        "Each rung of the ladder is one way to make the model cheaper. A rung may go live if the whole "
        f"interval of its difference lies above the margin.{each} {escape(point_means(c.metric))}".rstrip(),
        figure(
            scatter([*rungs, *baselines], c.teacher.value, c.margin, metric=c.metric, item=c.item),
            f"Left is faster, up is better. ● passes, ○ inconclusive, ✕ fails{any_of}{teacher}. "
            "The shaded band is what the margin allows to lose.",
        ),
        *_forests(certificates, featured, pick),
        rung_table(certificates, pick),
        _measures(featured),
    )


def latency_section(certificate: Certificate) -> str:
    """Return the histograms of single items; nothing where none was timed."""
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
    return section(
        f"How long one {escape(c.item)} takes",
        "From text to answer, tokenization included. The engines took turns on the same texts, so that a "
        "busy moment of the machine slowed all of them.",
        figure(
            latency_histogram(runners, c.latency_histogram.edges_ms, item=c.item),
            f"{escape(count(runners[0].samples, f'single {c.item}'))} each. "
            "The tall line is the median, the short one the 99th percentile.",
        ),
    )


def traffic_section(certificate: Certificate) -> str:
    """Return what traffic costs and what is saved; nothing where the certificate does not say."""
    c = certificate
    if c.traffic is None:
        return ""
    names = {"engine": c.rung, **BASELINE_NAMES}
    return section(
        "What traffic costs",
        f"Hours of a core for {CORE_QUERIES / 1e6:.0f} million {escape(plural(c.item))} like the held-out ones: the "
        "CPU time of all threads, taken in the rounds that latency was measured in.",
        cost_table(c.traffic, names),
    )


def changes_section(certificate: Certificate) -> str:
    """Return which answers are others, and whether that is chance."""
    c = certificate
    if not c.flip_count and not c.mcnemar.lost + c.mcnemar.gained:
        return section("What changed", f"Nothing: all {escape(count(c.rows, c.unit))} are answered as by the teacher.")
    more = f" The first {len(c.flips)} are listed." if c.flip_count > len(c.flips) else ""
    return section(
        "What changed",
        f"{c.flip_count:,} of {escape(count(c.rows, c.unit))} {escape(c.flip_means)}. The engine scores lower than "
        f"the teacher on {c.mcnemar.lost:,} and higher on {c.mcnemar.gained:,}. If losing and gaining were equally "
        f"likely, such an imbalance would come up with a probability of {c.mcnemar.p_value:.2g} "
        f"(exact sign test, which on right and wrong answers is McNemar's).{more}",
        flip_table(c.flips),
    )


def slices_section(certificate: Certificate) -> str:
    """Return the comparison in parts, and how far the scores moved."""
    c = certificate
    tables = {"Label": c.slices.label, "Length": c.slices.length}
    return section(
        "Where it changed",
        f"The same comparison in parts, worst first. Parts have few {escape(plural(c.unit))} and wide intervals: they "
        "show where to look, and decide nothing.",
        *(
            f"<h3>By {kind.lower()}</h3>{slice_table(slices, kind, metric=c.metric, unit=c.unit)}"
            for kind, slices in tables.items()
            if slices
        ),
        "<h3>Scores</h3>",
        fact_list(_score_facts(c)),
    )


def method_section(certificate: Certificate, notes: Sequence[str]) -> str:
    """Return how everything was measured, and on what."""
    return section("How it was measured", escape(certificate.reason), fact_list(_facts(certificate)), note_list(notes))


def _mark(certificate: Certificate) -> Mark:
    return certificate.verdict.value


def _forests(certificates: Sequence[Certificate], featured: Certificate, pick: Certificate | None) -> Iterator[str]:
    """Yield one interval plot for each measure that decides; the first one's caption says how to read them."""
    where = f"{escape(count(featured.rows, f'held-out {featured.unit}'))}"
    if len(featured.measures) < 2:
        spans = [Span(c.rung, c.difference, _mark(c), c is pick) for c in certificates]
        yield figure(
            forest(spans, featured.margin),
            f"Engine − teacher in points on the same {where}, with the 95% "
            "interval of the paired bootstrap. The shaded side is refused.",
        )
        return
    for place, measure in enumerate(featured.measures):
        found = [(c, record) for c in certificates for record in c.measures if record.name == measure.name]
        spans = [Span(c.rung, m.difference, m.verdict.value, c is pick) for c, m in found if m.verdict]
        if not measure.gates or not spans:
            continue
        yield figure(
            forest(spans, featured.margin, identifier=f"forest{place or ''}"),
            f"<b>{escape(metric_name(measure.name))}</b>, engine − teacher in points on the same {where}, with the "
            "95% interval of the paired bootstrap. The shaded side is refused.",
        )


def _measures(certificate: Certificate) -> str:
    if len(certificate.measures) < 2:
        return ""
    return f"<h3>Every measure of {escape(certificate.rung)}</h3>{measure_table(certificate.measures)}"


def _score_facts(certificate: Certificate) -> dict[str, str]:
    shift, calibration = certificate.score_shift, certificate.calibration
    facts = {}
    if calibration is not None:
        facts["Calibration error"] = (
            f"{percent(calibration.engine_ece, 2)}, teacher {percent(calibration.teacher_ece, 2)} "
            "<small>(expected, 15 bins)</small>"
        )
    if shift.total_variation is None:
        facts["Shift of a score"] = f"{shift.mean:.2g} on average, {shift.max:.2g} at most"
    else:
        facts["Shift of a probability"] = f"{points(shift.mean)} points on average, {points(shift.max)} at most"
        facts["Probability mass moved"] = f"{percent(shift.total_variation, 2)} on average"
    return facts


def _facts(certificate: Certificate) -> dict[str, str]:
    c, machine = certificate, certificate.hardware
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
    memory = f", {machine.memory_bytes / 2**30:.0f} GiB memory" if machine.memory_bytes else ""
    facts = {
        "Decision": "paired bootstrap, 10,000 resamples, 95% two-sided, non-inferiority margin "
        f"{points(c.margin)} points, {escape(count(c.rows, f'held-out {c.unit}'))}",
        "Engine": escape(c.engine_id),
        "Alone and in a batch": _determinism(c),
        "Processor": f"{escape(machine.cpu)}, {count(machine.logical_cores, 'core')}{memory}",
        "Instruction sets": escape(", ".join(machine.flags)) or "none that matter",
        "System": f"{escape(machine.system)}, Python {escape(machine.python)}",
        "Packages": escape(versions),
        "Seeds": escape(", ".join(f"{name} {seed}" for name, seed in sorted(c.seeds.items()))),
        "Chosen on the development rows": escape(", ".join(_told(c.selection))),
        "sha256 of the weights": f"<code>{escape(c.sha256.weights)}</code>",
        "sha256 of the data": f"<code>{escape(c.sha256.data)}</code>",
        "sha256 of the engine": f"<code>{escape(c.sha256.engine)}</code>",
    }
    return {name: value for name, value in facts.items() if value}


def _told(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield names and values for people; what stands within a setting is named after it."""
    for name, value in sorted(settings.items()):
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from (f"{words} {inner}" for inner in _told(value))
        elif isinstance(value, list | tuple):
            yield f"{words}: {' '.join(map(_plain, value)) or 'none'}"
        elif value != "":
            yield f"{words}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _determinism(certificate: Certificate) -> str:
    found = certificate.determinism
    if found is None:
        return "not compared"
    return (
        f"{found.identical_answers:,} of {count(found.rows, 'input')} get the same answer; "
        f"outputs differ by {found.max_difference:.2g} at most"
    )
