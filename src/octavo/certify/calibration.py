"""Do confidences mean what they say, and how far did quantization move the scores? Knows arrays, not the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.errors import InputError
from octavo.types import FloatArray

_SUM_TOLERANCE = 1e-3  # probabilities that were computed in single precision


@dataclass(frozen=True, slots=True)
class ScoreShift:
    """How far the engine's scores moved from the teacher's: probabilities, relevance scores or vectors.

    Attributes:
        mean: mean absolute change of a score, over rows and columns.
        max: largest change of any score.
        total_variation: mean over rows of half the summed changes, the probability mass that moved; None where
            the scores of a row are no probabilities.
    """

    mean: float
    max: float
    total_variation: float | None


def expected_calibration_error(confidence: FloatArray, correct: FloatArray, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by rows (Naeini et al. 2015).

    Args:
        confidence: probability of the given answer, (rows,).
        correct: score of that answer, 1 where right, (rows,).
        bins: number of equal-width bins over [0, 1].

    Raises:
        InputError: no rows, or shapes that differ.
    """
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise InputError(f"Need one score per confidence, not {correct.shape} for {confidence.shape}.")
    probability = confidence.astype(np.float64)
    bin_of_row = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    # rows in the bin x |accuracy - confidence| is the absolute sum of their differences.
    gaps = np.bincount(bin_of_row, weights=correct.astype(np.float64) - probability, minlength=bins)
    return float(np.abs(gaps).sum() / len(probability))


def score_shift(teacher: FloatArray, engine: FloatArray) -> ScoreShift:
    """Compare the scores that users see, both (rows, columns).

    Raises:
        InputError: no rows, shapes that differ, or scores that are not finite.
    """
    if teacher.ndim != 2 or teacher.shape != engine.shape or not teacher.size:
        raise InputError(f"Scores must be two matrices of one shape, not {teacher.shape} and {engine.shape}.")
    if not (np.isfinite(teacher).all() and np.isfinite(engine).all()):
        raise InputError("Scores contain NaN or infinity.")
    change = np.abs(engine.astype(np.float64) - teacher.astype(np.float64))  # (rows, columns)
    moved = change.sum(axis=1).mean() / 2 if _are_probabilities(teacher) and _are_probabilities(engine) else None
    return ScoreShift(float(change.mean()), float(change.max()), None if moved is None else float(moved))


def _are_probabilities(scores: npt.NDArray[np.floating]) -> bool:
    """Whether each row is a distribution over at least two columns."""
    sums = scores.sum(axis=1, dtype=np.float64)
    return scores.shape[1] > 1 and bool(scores.min() >= 0.0) and bool(np.abs(sums - 1.0).max() < _SUM_TOLERANCE)
