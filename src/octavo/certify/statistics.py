"""Paired comparison of two models on the same rows. Knows scores; knows no margin, no model and no text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.errors import InputError
from octavo.types import Interval

Scores = npt.NDArray[np.floating] | npt.NDArray[np.bool_]
_Float64 = npt.NDArray[np.float64]

# One fully lost and one fully gained row, (teacher, engine).
_PSEUDO_ROWS = np.array([[1.0, 0.0], [0.0, 1.0]])
_TAILS = (0.025, 0.975)
_CHUNK_VALUES = 2_000_000  # resampled values held at a time: about 32 MB
_MULTINOMIAL_PAIRS = 64  # up to here, drawing counts per distinct pair beats drawing rows


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Teacher against engine on the same rows.

    Attributes:
        teacher: mean score of the teacher, with its 95% interval.
        engine: mean score of the engine, with its 95% interval.
        difference: engine minus teacher, with the 95% interval of the paired difference.
        sd: standard deviation of the differences per row, the two pseudo-rows included.
        rows: number of real rows.
    """

    teacher: Interval
    engine: Interval
    difference: Interval
    sd: float
    rows: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows on which only one of the two was right, and how surprising their imbalance is.

    Attributes:
        lost: rows where the teacher scores higher.
        gained: rows where the engine scores higher.
        p_value: exact two-sided probability of such an imbalance if losing and gaining were equally likely.
    """

    lost: int
    gained: int
    p_value: float


def paired_bootstrap(teacher: Scores, engine: Scores, *, resamples: int = 10_000, seed: int = 0) -> PairedComparison:
    """Compare per-row scores in [0, 1] by the paired percentile bootstrap, 95% two-sided.

    Two pseudo-rows, one lost and one gained, take part in the resampling only, so that no interval collapses
    to a point where few rows differ: the bootstrap form of Agresti & Min (2005), "Simple improved confidence
    intervals for comparing matched proportions". The bounds are widened by half a row besides: sums of right
    and wrong answers move in whole rows, and a percentile taken on such a lattice is too hopeful. Where the
    engine only loses rows, a dozen at most, half a row brings the worst false-pass rate from 6.5% to 4.9%
    (2% on average; the nominal rate is 2.5%).

    Args:
        teacher: the teacher's score per row, (rows,).
        engine: the engine's score on the same rows, (rows,).
        resamples: how many times the rows are drawn again.
        seed: of the draws; equal inputs and seeds give equal intervals.

    Raises:
        InputError: no rows, shapes that differ, or scores outside [0, 1].
    """
    observed = _paired(teacher, engine)  # (rows, 2)
    rows = len(observed)
    augmented = np.concatenate([observed, _PSEUDO_ROWS])
    means = _resampled_means(augmented, resamples, np.random.default_rng(seed))  # (resamples, 2)
    low, high = np.quantile(means, _TAILS, axis=0)
    gaps = means[:, 1] - means[:, 0]
    gap_low, gap_high = (
        np.quantile(gaps, _TAILS[0], method="lower"),
        np.quantile(gaps, _TAILS[1], method="higher"),
    )
    half_row = 0.5 / len(augmented)
    teacher_mean, engine_mean = observed.mean(axis=0)
    return PairedComparison(
        teacher=_around(teacher_mean, low[0], high[0], floor=0.0),
        engine=_around(engine_mean, low[1], high[1], floor=0.0),
        difference=_around(engine_mean - teacher_mean, gap_low - half_row, gap_high + half_row, floor=-1.0),
        sd=float(np.std(augmented[:, 1] - augmented[:, 0])),
        rows=rows,
    )


def mcnemar(teacher: Scores, engine: Scores) -> McNemar:
    """Exact McNemar test on right/wrong answers; on graded scores, the sign test that it is a case of.

    Args:
        teacher: right (1) or wrong (0) per row, or a score, (rows,).
        engine: the same rows, (rows,).

    Raises:
        InputError: no rows, shapes that differ, or scores outside [0, 1].
    """
    pairs = _paired(teacher, engine)
    lost = int(np.count_nonzero(pairs[:, 0] > pairs[:, 1]))
    gained = int(np.count_nonzero(pairs[:, 1] > pairs[:, 0]))
    return McNemar(lost, gained, _binomial_p_value(min(lost, gained), lost + gained))


def _paired(teacher: Scores, engine: Scores) -> _Float64:
    """Check two score vectors and stand them side by side, sorted, (rows, 2)."""
    if teacher.ndim != 1 or teacher.shape != engine.shape:
        raise InputError(f"Scores must be two vectors of one length, not {teacher.shape} and {engine.shape}.")
    if not len(teacher):
        raise InputError("There are no rows to compare: the held-out split is empty.")
    pairs = np.stack([teacher, engine], axis=1).astype(np.float64)
    if not (np.isfinite(pairs).all() and pairs.min() >= 0.0 and pairs.max() <= 1.0):
        raise InputError(f"Scores must lie in [0, 1]; these reach from {pairs.min()} to {pairs.max()}.")
    return pairs[np.lexsort(pairs.T)]  # the order of the rows must not change a bit of the result


def _around(value: float, low: float, high: float, *, floor: float) -> Interval:
    """Make an interval that holds its value and stays within [floor, 1]."""
    return Interval(float(value), float(max(min(low, value), floor)), float(min(max(high, value), 1.0)))


def _resampled_means(pairs: _Float64, resamples: int, rng: np.random.Generator) -> _Float64:
    """Mean (teacher, engine) of `resamples` draws of the rows with replacement, (resamples, 2)."""
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    if len(distinct) <= _MULTINOMIAL_PAIRS:
        # Only how often each pair was drawn matters, not on which row: right/wrong has four pairs at most.
        drawn = rng.multinomial(len(pairs), counts / len(pairs), size=resamples)  # (resamples, pairs)
        return np.asarray(drawn @ distinct / len(pairs), np.float64)
    return np.concatenate(list(_chunks_of_means(pairs, resamples, rng)))


def _chunks_of_means(pairs: _Float64, resamples: int, rng: np.random.Generator) -> Iterator[_Float64]:
    rows = len(pairs)
    both = pairs.view(np.complex128)[:, 0]  # teacher + i engine: one gather moves the two scores of a row
    chunk = max(1, _CHUNK_VALUES // rows)
    for start in range(0, resamples, chunk):
        draws = rng.integers(0, rows, size=(min(chunk, resamples - start), rows), dtype=np.int32)
        means = both[draws].mean(axis=1)
        yield np.stack([means.real, means.imag], axis=1)


def _binomial_p_value(successes: int, trials: int) -> float:
    """Two-sided exact p of `successes`, the rarer side, in `trials` fair coin tosses."""
    if not trials:
        return 1.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(successes + 1)
    log_terms = log_factorial[trials] - log_factorial[k] - log_factorial[trials - k] - trials * np.log(2.0)
    return float(min(1.0, 2.0 * np.exp(log_terms).sum()))
