"""Do confidences mean what they say, and how far did quantization move them? Knows logits, not the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.certify.statistics import Scores
from octavo.errors import InputError
from octavo.types import FloatArray


@dataclass(frozen=True, slots=True)
class ScoreShift:
    """How far the engine's probabilities moved from the teacher's, as fractions.

    Attributes:
        mean: mean absolute change of a probability, over rows and classes.
        max: largest change of any probability.
        total_variation: mean over rows of half the summed changes: the probability mass that moved.
    """

    mean: float
    max: float
    total_variation: float


def softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Return class probabilities, (rows, classes), from logits of that shape.

    Raises:
        InputError: not a matrix of at least two classes, or not finite.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"Logits must have the shape (rows, at least 2 classes), not {logits.shape}.")
    if not np.isfinite(logits).all():
        raise InputError("Logits contain NaN or infinity.")
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float64)


def expected_calibration_error(confidence: Scores, correct: Scores, *, bins: int = 15) -> float:
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
    confidence = confidence.astype(np.float64)
    bin_of_row = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    # rows in the bin x |accuracy - confidence| is the absolute sum of their differences.
    gaps = np.bincount(bin_of_row, weights=correct.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def score_shift(teacher_logits: FloatArray, engine_logits: FloatArray) -> ScoreShift:
    """Compare the probabilities behind two sets of logits, both (rows, classes).

    Raises:
        InputError: no rows, shapes that differ, or logits that are not finite.
    """
    if teacher_logits.shape != engine_logits.shape or not len(teacher_logits):
        raise InputError(f"Logits differ in shape: {teacher_logits.shape} and {engine_logits.shape}.")
    change = np.abs(softmax(engine_logits) - softmax(teacher_logits))
    return ScoreShift(float(change.mean()), float(change.max()), float(change.sum(axis=1).mean() / 2))
