"""Every measure of a certificate: compared, decided where it gates, reported where it does not. Knows no task."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octavo.certify.decision import Decision, decide
from octavo.certify.statistics import paired_bootstrap
from octavo.errors import InputError
from octavo.types import Interval, Measure, Verdict

_SEVERITY = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)


class MeasureRecord(msgspec.Struct, frozen=True):
    """One measure of teacher and engine.

    Attributes:
        name: as in `octavo.types.Measure`.
        gates: whether the certificate rests on it; the first one always does.
        verdict: of this measure alone; None where it is only reported.
        reason: the verdict in a sentence; empty where there is none.
        teacher: with its 95% interval.
        engine: with its 95% interval.
        difference: engine minus teacher, with its 95% interval.
        difference_sd: what each unit adds to the difference, as a standard deviation.
        rows_needed: units that would decide an inconclusive measure; None where that cannot be said.
    """

    name: str
    gates: bool
    verdict: Verdict | None
    reason: str
    teacher: Interval
    engine: Interval
    difference: Interval
    difference_sd: float
    rows_needed: int | None


def records_from(
    teacher: Sequence[Measure], engine: Sequence[Measure], margin: float, *, unit: str = "row", seed: int = 0
) -> list[MeasureRecord]:
    """Compare each measure of the teacher with the engine's one, in order.

    Args:
        teacher: at least one; the first is the one that decides.
        engine: the same measures of the engine's answers to the same units.
        margin: the loss that would still be accepted in each measure that gates, as a fraction.
        unit: what is counted, in a word.
        seed: of the bootstrap.

    Raises:
        InputError: no measures, measures that are not the same ones, or ones that cannot be compared.
    """
    kinds = [[(measure.name, measure.gates) for measure in measures] for measures in (teacher, engine)]
    if not teacher or kinds[0] != kinds[1]:
        raise InputError(f"Teacher and engine need the same measures, at least one: {kinds[0]} and {kinds[1]}.")
    return [
        _record(of_teacher, of_engine, margin, unit, seed, is_first=place == 0)
        for place, (of_teacher, of_engine) in enumerate(zip(teacher, engine, strict=True))
    ]


def verdict_of(records: Sequence[MeasureRecord]) -> Decision:
    """Return the decision that the measures come to: of those that gate, the worst one.

    Among inconclusive ones it is the one that needs the most units, among others the first.
    """
    decisions = [Decision(r.verdict, r.rows_needed, r.reason) for r in records if r.gates and r.verdict is not None]
    return min(decisions, key=_rank)


def check_records(records: Sequence[MeasureRecord], rows: int, margin: float) -> None:
    """Decide every measure again from its interval.

    Raises:
        InputError: the first one does not gate, or one says what its interval denies.
    """
    if not records[0].gates:
        raise InputError(f"its first measure, '{records[0].name}', does not gate")
    for record in records:
        derived = decide(record.difference, record.difference_sd, rows, margin).verdict if record.gates else None
        if record.verdict is not derived:
            raise InputError(f"it says '{record.verdict}' of '{record.name}', whose interval means '{derived}'")


def _rank(decision: Decision) -> tuple[int, float]:
    severity = _SEVERITY.index(decision.verdict)
    if decision.verdict is not Verdict.INCONCLUSIVE:
        return severity, 0.0
    return severity, float("-inf") if decision.rows_needed is None else -decision.rows_needed


def _record(teacher: Measure, engine: Measure, margin: float, unit: str, seed: int, *, is_first: bool) -> MeasureRecord:
    compared = paired_bootstrap(teacher, engine, seed=seed)
    gates = is_first or teacher.gates
    named = "" if is_first else teacher.name
    decision = (
        decide(compared.difference, compared.sd, compared.rows, margin, unit=unit, metric=named) if gates else None
    )
    return MeasureRecord(
        name=teacher.name,
        gates=gates,
        verdict=decision.verdict if decision else None,
        reason=decision.reason if decision else "",
        teacher=compared.teacher,
        engine=compared.engine,
        difference=compared.difference,
        difference_sd=compared.sd,
        rows_needed=decision.rows_needed if decision else None,
    )
