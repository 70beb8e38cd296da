"""`certificate.json`: what was proved about one engine, on which rows, where, and how fast it is.

Knows the format and assembles it from measurements; runs no model and writes no file. Fractions everywhere:
0.01 is one point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from octavo.certify.calibration import ScoreShift, expected_calibration_error, score_shift
from octavo.certify.decision import decide
from octavo.certify.latency import Latency, LatencySummary, speedup, speedup_batch1
from octavo.certify.slices import Slice, length_bands, slices_by
from octavo.certify.statistics import McNemar, Scores, mcnemar, paired_bootstrap
from octavo.engines.hardware import Hardware
from octavo.errors import InputError, OctavoError, ReleaseError
from octavo.types import FloatArray, Interval, Verdict

FORMAT = 1
BASELINES = ("torch_fp32", "openvino_fp32")
_MOST_FLIPS = 200
_OUTCOMES = ("lost", "gained", "changed")


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered to the held-out rows.

    Attributes:
        scores: how good each answer is, in [0, 1]; 1 or 0 for a class, (rows,).
        names: the answers as users read them, (rows,).
        confidence: the model's probability of its answer, (rows,).
        logits: the head's output, (rows, classes).
    """

    scores: Scores
    names: Sequence[str]
    confidence: FloatArray
    logits: FloatArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """The held-out rows and what teacher and engine made of them.

    Attributes:
        texts: the rows, (rows,).
        labels: the right answers, (rows,).
        lengths: tokens per row, (rows,).
        teacher: the teacher's answers.
        engine: the answers of the engine that will serve, run in batches.
        engine_alone: that engine's answers to the first rows, each run alone; None where that was not tried.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    lengths: Sequence[int]
    teacher: Answers
    engine: Answers
    engine_alone: Answers | None = None


class Hashes(msgspec.Struct, frozen=True):
    """Sha256 of the weights, of the held-out data, and of the file that the engine loaded."""

    weights: str
    data: str
    engine: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What is being certified, and where.

    Attributes:
        model: name of the release.
        version: of the release; empty while it has none.
        task: such as `classify`.
        rung: of the ladder, such as `int8-qat`.
        metric: what the scores are the mean of, such as `accuracy`.
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


class Calibration(msgspec.Struct, frozen=True):
    """Expected calibration error (15 bins) of teacher and engine."""

    teacher_ece: float
    engine_ece: float


class Flip(msgspec.Struct, frozen=True):
    """One row that teacher and engine answer differently; `changed` where both are equally right or wrong."""

    text: str
    label: str
    teacher: str
    engine: str
    teacher_confidence: float
    engine_confidence: float
    outcome: Literal["lost", "gained", "changed"]


class Determinism(msgspec.Struct, frozen=True):
    """The same rows alone and in a batch: rows tried, same answer, largest difference of a logit."""

    rows: int
    identical_answers: int
    max_difference: float


class Histogram(msgspec.Struct, frozen=True):
    """Single-query latencies: shared bin edges, and the count per bin of `engine` and of each baseline."""

    edges_ms: list[float]
    counts: dict[str, list[int]]


class Slices(msgspec.Struct, frozen=True):
    """The comparison in parts, worst first. Diagnostic."""

    label: list[Slice]
    length: list[Slice]


class Speedup(msgspec.Struct, frozen=True):
    """How many times faster the engine is than each baseline; None where that was not measured beside it."""

    torch_fp32: float | None = None
    openvino_fp32: float | None = None


class SpeedupIntervals(msgspec.Struct, frozen=True):
    """`Speedup` with the interval of the median over the rounds of the measurement."""

    torch_fp32: Interval | None = None
    openvino_fp32: Interval | None = None


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One engine against its teacher: the content of `certificate.json`. Field names are the JSON names."""

    format: int = FORMAT
    model: str
    version: str
    task: str
    rung: str
    verdict: Verdict
    reason: str
    metric: str
    margin: float
    rows: int
    rows_needed: int | None
    teacher: Interval
    engine: Interval
    difference: Interval
    difference_sd: float
    agreement: float
    mcnemar: McNemar
    calibration: Calibration
    score_shift: ScoreShift
    determinism: Determinism | None
    engine_id: str
    hardware: Hardware
    latency_ms: Latency
    baselines: dict[str, Latency]
    speedup: Speedup
    speedup_batch1: Speedup
    speedup_interval: SpeedupIntervals
    compute_saved: float | None
    latency_histogram: Histogram
    model_bytes: int
    sha256: Hashes
    seeds: dict[str, int]
    created: str
    selection: dict[str, Any]
    slices: Slices
    flip_count: int
    flips: list[Flip]


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
        InputError: evidence whose parts differ in length, scores outside [0, 1], a margin that is none.
    """
    _check(evidence)
    teacher, engine = evidence.teacher, evidence.engine
    comparison = paired_bootstrap(teacher.scores, engine.scores, seed=seed)
    decision = decide(comparison.difference, comparison.sd, comparison.rows, margin)
    flips = _flips(evidence)
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
        rows=comparison.rows,
        rows_needed=decision.rows_needed,
        teacher=comparison.teacher,
        engine=comparison.engine,
        difference=comparison.difference,
        difference_sd=comparison.sd,
        agreement=1 - len(flips) / comparison.rows,
        mcnemar=mcnemar(teacher.scores, engine.scores),
        calibration=Calibration(
            teacher_ece=expected_calibration_error(teacher.confidence, teacher.scores),
            engine_ece=expected_calibration_error(engine.confidence, engine.scores),
        ),
        score_shift=score_shift(teacher.logits, engine.logits),
        determinism=_determinism(evidence),
        engine_id=identity.engine_id,
        hardware=identity.hardware,
        latency_ms=timing.engine.latency,
        baselines={name: summary.latency for name, summary in timing.baselines.items()},
        speedup=Speedup(**_values(per_query)),
        speedup_batch1=Speedup(**_values(single)),
        speedup_interval=SpeedupIntervals(**per_query),
        compute_saved=1 - 1 / per_query["torch_fp32"].value if "torch_fp32" in per_query else None,
        latency_histogram=_histogram(timing),
        model_bytes=identity.model_bytes,
        sha256=identity.sha256,
        seeds={**identity.seeds, "bootstrap": seed},
        created=identity.created,
        selection=dict(identity.selection),
        slices=Slices(
            label=slices_by(evidence.labels, teacher.scores, engine.scores, seed=seed),
            length=slices_by(length_bands(evidence.lengths), teacher.scores, engine.scores, seed=seed),
        ),
        flip_count=len(flips),
        flips=flips[:_MOST_FLIPS],
    )


def certificate_json(certificate: Certificate) -> bytes:
    """Write a certificate as indented UTF-8 JSON; equal certificates give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(certificate, order="deterministic"), indent=2) + b"\n"


def read_certificate(content: bytes, source: str) -> Certificate:
    """Read `certificate.json`.

    Args:
        content: the file's bytes.
        source: the file's name, for the error message.

    Raises:
        ReleaseError: not JSON, another format, a field missing or wrong, or a verdict that its numbers deny.
    """
    try:
        written_format = msgspec.json.decode(content, type=_Format).format
        if written_format != FORMAT:
            raise ReleaseError(f"{source}: certificate format {written_format}; this Octavo reads format {FORMAT}.")
        certificate = msgspec.json.decode(content, type=Certificate)
        verdict = decide(
            certificate.difference, certificate.difference_sd, certificate.rows, certificate.margin
        ).verdict
    except ReleaseError:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, OctavoError) as error:
        raise ReleaseError(f"{source}: not a certificate: {error}") from error
    if verdict is not certificate.verdict:
        raise ReleaseError(
            f"{source}: says '{certificate.verdict}', but its interval and margin mean '{verdict}'. "
            "Certify the model again."
        )
    return certificate


class _Format(msgspec.Struct):
    format: int


def _check(evidence: Evidence) -> None:
    rows = len(evidence.texts)
    counts = Counter({"labels": len(evidence.labels), "lengths": len(evidence.lengths)})
    for name, answers in (("teacher", evidence.teacher), ("engine", evidence.engine)):
        for part in ("scores", "names", "confidence", "logits"):
            counts[f"{name}.{part}"] = len(getattr(answers, part))
    wrong = {name: count for name, count in counts.items() if count != rows}
    if wrong:
        raise InputError(f"Evidence on {rows} rows has parts of other lengths: {wrong}.")
    if evidence.engine_alone is not None and len(evidence.engine_alone.names) > rows:
        raise InputError(f"{len(evidence.engine_alone.names)} rows were run alone, of only {rows}.")


def _flips(evidence: Evidence) -> list[Flip]:
    """Rows that are answered differently: lost ones first, and those that the teacher was surest of."""
    teacher, engine = evidence.teacher, evidence.engine
    flips = [
        Flip(
            text=text,
            label=label,
            teacher=teacher.names[row],
            engine=engine.names[row],
            teacher_confidence=float(teacher.confidence[row]),
            engine_confidence=float(engine.confidence[row]),
            outcome=_outcome(float(teacher.scores[row]), float(engine.scores[row])),
        )
        for row, (text, label) in enumerate(zip(evidence.texts, evidence.labels, strict=True))
        if teacher.names[row] != engine.names[row]
    ]
    return sorted(flips, key=lambda flip: (_OUTCOMES.index(flip.outcome), -flip.teacher_confidence))


def _outcome(teacher: float, engine: float) -> Literal["lost", "gained", "changed"]:
    if engine == teacher:
        return "changed"
    return "lost" if engine < teacher else "gained"


def _determinism(evidence: Evidence) -> Determinism | None:
    alone = evidence.engine_alone
    if alone is None or not len(alone.names):
        return None
    rows = len(alone.names)
    batched = evidence.engine
    return Determinism(
        rows=rows,
        identical_answers=sum(a == b for a, b in zip(alone.names, batched.names[:rows], strict=True)),
        max_difference=float(np.abs(alone.logits - batched.logits[:rows]).max()),
    )


def _speedups(timing: Timing, ratio: Any) -> dict[str, Interval]:
    return {name: ratio(timing.baselines[name], timing.engine) for name in BASELINES if name in timing.baselines}


def _values(intervals: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in intervals.items()}


def _histogram(timing: Timing) -> Histogram:
    counts = {name: list(summary.counts) for name, summary in timing.baselines.items()}
    return Histogram(list(timing.engine.edges_ms), {"engine": list(timing.engine.counts), **counts})
