"""The gate: an interval against a margin. A pure function; measures nothing and knows no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from octavo.certify.wording import count, interval_points, metric_name, plural, points, signed_points
from octavo.errors import InputError
from octavo.types import Interval, Verdict

_Z = 1.959964  # two-sided 95%, as in the intervals
_ON_THE_MARGIN = 1e-9  # nearer than this, no number of rows tells the difference from -margin


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says.

    Attributes:
        verdict: pass, fail or inconclusive.
        rows_needed: units that would decide an inconclusive comparison if the new ones are like the ones seen.
            None where it is decided, and where the difference sits exactly on the margin.
        reason: the verdict in one sentence, with its numbers in points.
    """

    verdict: Verdict
    rows_needed: int | None
    reason: str


def decide(
    difference: Interval, sd: float, rows: int, margin: float, *, unit: str = "row", metric: str = ""
) -> Decision:
    """Decide whether `difference` (engine minus teacher) is non-inferior by `margin`.

    Args:
        difference: with its 95% interval, as fractions.
        sd: standard deviation of the paired differences, pseudo-units included (`PairedComparison.sd`).
        rows: units that the comparison was made on.
        margin: the loss that would still be accepted, as a fraction: 0.005 is half a point.
        unit: what is counted, in a word, for the sentence.
        metric: what is compared, where the sentence has to say so.

    Raises:
        InputError: a margin that is not between 0 and 1, no rows, or an interval that is none.
    """
    _check(difference, sd, rows, margin)
    if difference.low > -margin:
        verdict, rows_needed = Verdict.PASS, None
        conclusion = f"all of it above the margin of −{points(margin)}, so the engine is not inferior"
    elif difference.high < -margin:
        verdict, rows_needed = Verdict.FAIL, None
        conclusion = f"all of it below the margin of −{points(margin)}, so the engine is worse"
    else:
        verdict, rows_needed = Verdict.INCONCLUSIVE, _rows_needed(difference.value, sd, rows, margin)
        conclusion = f"on both sides of the margin of −{points(margin)}; " + _advice(rows_needed, unit)
    subject = f" in {metric_name(metric)}" if metric else ""
    observation = _observation(difference, f"{subject} on {count(rows, unit)}")
    return Decision(verdict, rows_needed, f"{observation}, {conclusion}.")


def _check(difference: Interval, sd: float, rows: int, margin: float) -> None:
    if not 0.0 < margin < 1.0:
        raise InputError(f"The margin must lie between 0 and 1 (0.005 is half a point), not {margin}.")
    if rows < 1:
        raise InputError(f"A decision needs at least one row, not {rows}.")
    if not difference.low <= difference.value <= difference.high or not 0.0 <= sd < math.inf:
        raise InputError(f"Not a difference with its interval and deviation: {difference}, sd {sd}.")


def _rows_needed(value: float, sd: float, rows: int, margin: float) -> int | None:
    """Rows at which 1.96 standard errors fit between the observed difference and -margin."""
    gap = abs(value + margin)
    if gap < _ON_THE_MARGIN:
        return None
    # The intervals are no exact normal ones: what `rows` left open is never called decided by `rows`.
    return max(math.ceil((_Z * sd / gap) ** 2), rows + 1)


def _advice(rows_needed: int | None, unit: str) -> str:
    if rows_needed is None:
        return f"the difference sits on the margin itself, so no number of {plural(unit)} would decide"
    return f"about {count(rows_needed, unit)} like these would decide"


def _observation(difference: Interval, where: str) -> str:
    if signed_points(difference.value) == signed_points(0.0):
        position = "level with the teacher"
    else:
        side = "below" if difference.value < 0 else "above"
        position = f"{points(abs(difference.value))} points {side} the teacher"
    interval = interval_points(difference)
    return f"The engine is {position}{where}, 95% interval {interval} points"
