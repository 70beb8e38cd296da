"""From evidence to a certificate: what teacher and engine answered is compared and decided, and recorded with the rest.

Pure: runs no model, and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octavo.certify.calibration import expected_calibration_error, score_shift
from octavo.certify.certificate import (
    Calibration,
    Certificate,
    CoreCost,
    CoreTime,
    CoreTimeSaved,
    Determinism,
    Hashes,
    Histogram,
    Slices,
    Speedup,
    SpeedupIntervals,
)
from octavo.certify.flips import flips_between
from octavo.certify.latency import LatencySummary, core_saved, speedup, speedup_batch1
from octavo.certify.measures import records_from, verdict_of
from octavo.certify.slices import length_bands, slices_by
from octavo.certify.statistics import mcnemar
from octavo.certify.traffic import core_hours
from octavo.certify.wording import plural
from octavo.engines.hardware import Hardware
from octavo.errors import InputError
from octavo.tasks.base import Answers
from octavo.types import Interval

BASELINES = ("torch_fp32", "openvino_fp32")
_MOST_FLIPS = 200
_GPU_WORDS = ("tensorrt", "cuda")  # in the id of an engine whose cost is not the CPU's


@dataclass(frozen=True, slots=True)
class Evidence:
    """The held-out units and what teacher and engine made of them.

    Attributes:
        texts: the units as people read them, (units,).
        labels: the right answers as people read them, (units,).
        lengths: tokens per unit, (units,).
        teacher: the teacher's answers.
        engine: the answers of the engine that will serve, run in batches.
        determinism: of that engine; None where that was not tried.
        slices: names of the parts to look at one by one, (units,); empty for none.
        unit: what is counted, in a word, such as `row`, `sentence` or `query`.
        item: what is timed, in a word.
        agreement_means: what the mean of the engine's `agreement` is a share of, after "98%".
        flip_means: what differs in a unit whose answer has another name, after "12 queries".
    """

    texts: Sequence[str]
    labels: Sequence[str]
    lengths: Sequence[int]
    teacher: Answers
    engine: Answers
    determinism: Determinism | None = None
    slices: Sequence[str] = ()
    unit: str = "row"
    item: str = "query"
    agreement_means: str = "of the answers are the same"
    flip_means: str = "are answered differently"


@dataclass(frozen=True, slots=True)
class Identity:
    """What is being certified, and where.

    Attributes:
        model: name of the release.
        version: of the release; empty while it has none.
        task: such as `classify`.
        rung: of the ladder, such as `int8-qat`.
        metric: name of the first measure, such as `accuracy`.
        engine_id: as the engine gives it.
        model_bytes: size of the file that the engine loads.
        sha256: of weights, data and engine.
        seeds: by what they seeded.
        hardware: that everything was measured on.
        created: ISO 8601 time in UTC.
        selection: what was chosen on the development rows, free in form, JSON values only.
    """

    model: str
    version: str
    task: str
    rung: str
    metric: str
    engine_id: str
    model_bytes: int
    sha256: Hashes
    seeds: Mapping[str, int]
    hardware: Hardware
    created: str
    selection: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """One latency measurement: the engine and the baselines that took turns with it.

    Attributes:
        engine: of the certified engine.
        baselines: by name; `torch_fp32` and `openvino_fp32` are the ones that speed-ups are quoted against.
    """

    engine: LatencySummary
    baselines: Mapping[str, LatencySummary] = field(default_factory=dict)


def certificate_from(
    evidence: Evidence, identity: Identity, timing: Timing, margin: float, *, seed: int = 0
) -> Certificate:
    """Decide whether the engine is as good as the teacher, and record what the decision rests on.

    Args:
        evidence: held-out rows and answers.
        identity: what is certified, and where.
        timing: how fast it was there.
        margin: the loss that would still be accepted, as a fraction.
        seed: of the bootstrap; recorded as `seeds["bootstrap"]`.

    Raises:
        InputError: evidence whose parts do not fit together, gains outside 0 to their weight, a margin that is none.
    """
    _check(evidence, identity)
    teacher, engine = evidence.teacher, evidence.engine
    measures = records_from(teacher.measures, engine.measures, margin, unit=evidence.unit, seed=seed)
    first, decision = measures[0], verdict_of(measures)
    flips = flips_between(evidence.texts, evidence.labels, teacher, engine)
    per_query = _speedups(timing, speedup)
    single = _speedups(timing, speedup_batch1)
    return Certificate(
        model=identity.model,
        version=identity.version,
        task=identity.task,
        rung=identity.rung,
        verdict=decision.verdict,
        reason=decision.reason,
        metric=identity.metric,
        margin=margin,
        rows=len(evidence.texts),
        unit=evidence.unit,
        item=evidence.item,
        rows_needed=decision.rows_needed,
        measures=measures,
        teacher=first.teacher,
        engine=first.engine,
        difference=first.difference,
        difference_sd=first.difference_sd,
        agreement=float(engine.agreement.mean(dtype=np.float64)),
        agreement_means=evidence.agreement_means,
        mcnemar=mcnemar(teacher.measures[0], engine.measures[0]),
        calibration=_calibration(teacher, engine),
        score_shift=score_shift(teacher.shown, engine.shown),
        determinism=evidence.determinism,
        engine_id=identity.engine_id,
        hardware=identity.hardware,
        latency_ms=timing.engine.latency,
        baselines={name: summary.latency for name, summary in timing.baselines.items()},
        speedup=Speedup(**_values(per_query)),
        speedup_batch1=Speedup(**_values(single)),
        speedup_interval=SpeedupIntervals(**per_query),
        compute_saved=1 - 1 / per_query["torch_fp32"].value if "torch_fp32" in per_query else None,
        traffic=None if any(word in identity.engine_id for word in _GPU_WORDS) else _traffic(timing),
        latency_histogram=_histogram(timing),
        model_bytes=identity.model_bytes,
        sha256=identity.sha256,
        seeds={**identity.seeds, "bootstrap": seed},
        created=identity.created,
        selection=dict(identity.selection),
        slices=Slices(
            label=slices_by(evidence.slices, teacher.measures[0], engine.measures[0], seed=seed),
            length=slices_by(length_bands(evidence.lengths), teacher.measures[0], engine.measures[0], seed=seed),
        ),
        flip_count=len(flips),
        flip_means=evidence.flip_means,
        flips=flips[:_MOST_FLIPS],
    )


def _check(evidence: Evidence, identity: Identity) -> None:
    units = len(evidence.texts)
    counts = {"labels": len(evidence.labels), "lengths": len(evidence.lengths)}
    if len(evidence.slices):
        counts["slices"] = len(evidence.slices)
    for model, answers in (("teacher", evidence.teacher), ("engine", evidence.engine)):
        counts |= {f"{model}.names": len(answers.names), f"{model}.agreement": len(answers.agreement)}
        counts |= {f"{model}.{measure.name}": len(measure.gains) for measure in answers.measures}
        if answers.confidence is not None:
            counts[f"{model}.confidence"] = len(answers.confidence)
    wrong = {name: count for name, count in counts.items() if count != units}
    if wrong:
        raise InputError(f"Evidence on {units} {plural(evidence.unit)} has parts of other lengths: {wrong}.")
    names = [measure.name for measure in evidence.teacher.measures]
    if names[:1] != [identity.metric]:
        raise InputError(f"'{identity.metric}' is to be certified, and the first measure is not: {names}.")
    agreement = evidence.engine.agreement
    if units and not (agreement.min() >= 0.0 and agreement.max() <= 1.0):
        raise InputError(f"Agreement must lie in [0, 1], not reach from {agreement.min()} to {agreement.max()}.")


def _calibration(teacher: Answers, engine: Answers) -> Calibration | None:
    """Calibration errors, where there are confidences in answers that are right or wrong."""
    errors = []
    for answers in (teacher, engine):
        measure = answers.measures[0]
        if answers.confidence is None or (measure.weights != 1).any() or not np.isin(measure.gains, (0, 1)).all():
            return None
        errors.append(expected_calibration_error(answers.confidence, measure.gains))
    return Calibration(*errors)


def _traffic(timing: Timing) -> CoreCost:
    summaries = {"engine": timing.engine, **timing.baselines}
    return CoreCost(
        core_time={name: _core_time(summary) for name, summary in summaries.items()},
        saved={name: CoreTimeSaved(*core_saved(summary, timing.engine)) for name, summary in timing.baselines.items()},
    )


def _core_time(summary: LatencySummary) -> CoreTime:
    alone_ms, batched_ms = (float(np.median(ms)) for ms in (summary.rounds_core1_ms, summary.rounds_core32_ms))
    return CoreTime(alone_ms, batched_ms, core_hours(alone_ms / 1e3), core_hours(batched_ms / 1e3))


def _speedups(timing: Timing, ratio: Any) -> dict[str, Interval]:
    return {name: ratio(timing.baselines[name], timing.engine) for name in BASELINES if name in timing.baselines}


def _values(intervals: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in intervals.items()}


def _histogram(timing: Timing) -> Histogram:
    counts = {name: list(summary.counts) for name, summary in timing.baselines.items()}
    return Histogram(list(timing.engine.edges_ms), {"engine": list(timing.engine.counts), **counts})
