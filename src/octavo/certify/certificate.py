"""`certificate.json`: what was proved about one engine, on which rows, where, and how fast it is.

Knows the fields, writes them and reads them; what is read must not contradict itself. How a certificate comes about,
`certifying` knows. Fractions everywhere: 0.01 is one point.
"""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.certify.calibration import ScoreShift
from octavo.certify.decision import decide
from octavo.certify.flips import Flip
from octavo.certify.latency import Latency
from octavo.certify.measures import MeasureRecord, check_records, verdict_of
from octavo.certify.slices import Slice
from octavo.certify.statistics import McNemar
from octavo.engines.hardware import Hardware
from octavo.errors import InputError, OctavoError, ReleaseError
from octavo.types import Interval, Verdict

FORMAT = 1


class Determinism(msgspec.Struct, frozen=True):
    """The same inputs alone and in a batch: inputs tried, same answer, largest difference of an output."""

    rows: int
    identical_answers: int
    max_difference: float


class Hashes(msgspec.Struct, frozen=True):
    """Sha256 of the weights, of the held-out data, and of the file that the engine loaded."""

    weights: str
    data: str
    engine: str


class Calibration(msgspec.Struct, frozen=True):
    """Expected calibration error (15 bins) of teacher and engine."""

    teacher_ece: float
    engine_ece: float


class Histogram(msgspec.Struct, frozen=True):
    """Single-query latencies: shared bin edges, and the count per bin of `engine` and of each baseline."""

    edges_ms: list[float]
    counts: dict[str, list[int]]


class Slices(msgspec.Struct, frozen=True):
    """The comparison in parts, worst first. Diagnostic. `label` is empty where the units have no such parts."""

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


class CoreTime(msgspec.Struct, frozen=True):
    """What a query keeps cores busy for, in all threads of the process.

    Attributes:
        alone_ms: milliseconds of a core, one query a call; the median over rounds.
        batched_ms: the same, 32 a call.
        core_hours_per_100m_alone: hours of a core for 100 million such queries.
        core_hours_per_100m_batched: the same, 32 a call.
    """

    alone_ms: float
    batched_ms: float
    core_hours_per_100m_alone: float
    core_hours_per_100m_batched: float


class CoreTimeSaved(msgspec.Struct, frozen=True):
    """The share of a baseline's core time that the engine saves, with the interval of the median over rounds."""

    alone: Interval
    batched: Interval


class CoreCost(msgspec.Struct, frozen=True):
    """What traffic like the held-out inputs costs: CPU time, taken in the rounds that latency was measured in.

    Attributes:
        core_time: of `engine`, and of each baseline.
        saved: against each baseline.
    """

    core_time: dict[str, CoreTime]
    saved: dict[str, CoreTimeSaved]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One engine against its teacher: the content of `certificate.json`. Field names are the JSON names.

    `teacher`, `engine`, `difference` and `difference_sd` are those of the first of `measures`; `verdict`, `reason` and
    `rows_needed` come from the measure that decided. Certificates made before there were several have no `measures`.
    `traffic` is missing in older ones, and of engines that run on a GPU.
    """

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
    unit: str = "row"
    item: str = "query"
    rows_needed: int | None
    measures: list[MeasureRecord] = []
    teacher: Interval
    engine: Interval
    difference: Interval
    difference_sd: float
    agreement: float
    agreement_means: str = "of the answers are the same"
    mcnemar: McNemar
    calibration: Calibration | None
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
    traffic: CoreCost | None = None
    latency_histogram: Histogram
    model_bytes: int
    sha256: Hashes
    seeds: dict[str, int]
    created: str
    selection: dict[str, Any]
    slices: Slices
    flip_count: int
    flip_means: str = "are answered differently"
    flips: list[Flip]


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
        verdict = _verdict_of_numbers(certificate)
    except ReleaseError:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, OctavoError) as error:
        raise ReleaseError(f"{source}: not a certificate: {error}") from error
    if verdict is not certificate.verdict:
        raise ReleaseError(
            f"{source}: says '{certificate.verdict}', but its intervals and margin mean '{verdict}'. "
            "Certify the model again."
        )
    return certificate


class _Format(msgspec.Struct):
    format: int


def _verdict_of_numbers(certificate: Certificate) -> Verdict:
    """Decide again from the intervals alone; `measures` must agree with the fields at the top."""
    c = certificate
    if not c.measures:
        return decide(c.difference, c.difference_sd, c.rows, c.margin).verdict
    check_records(c.measures, c.rows, c.margin)
    first = c.measures[0]
    written = (first.name, first.teacher, first.engine, first.difference, first.difference_sd)
    if written != (c.metric, c.teacher, c.engine, c.difference, c.difference_sd):
        raise InputError(f"its first measure, '{first.name}', is not the {c.metric} at its top")
    return verdict_of(c.measures).verdict
