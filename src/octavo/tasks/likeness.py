"""How alike two versions' outputs to the same inputs are, where there is no truth to ask: canaries and shadows.

Knows rows of outputs; what they mean, each task says (`Task.likeness`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.tasks.probabilities import softmax
from octavo.types import FloatArray, IntArray, Outputs

BoolArray = npt.NDArray[np.bool_]


def rows_in_common(old: Outputs, new: Outputs) -> tuple[IntArray, IntArray, IntArray]:
    """Return the rows of each that stand for the same token, and where each input's rows among them start.

    An input that one version cut shorter has fewer rows there; what only one of them read is not compared.

    Returns:
        rows of `old`, rows of `new`, both (rows,), and offsets, (inputs + 1,).
    """
    counts = np.minimum(np.diff(old.offsets), np.diff(new.offsets))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)  # (rows,), within the input
    return np.repeat(old.offsets[:-1], counts) + place, np.repeat(new.offsets[:-1], counts) + place, offsets


def choices_alike(old: FloatArray, new: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return whether each row of logits has its largest at the same place, and how far its probabilities moved.

    The distance is the total variation: 0 for equal probabilities, 1 for disjoint ones. What is not a number is as far
    as can be, and the same as nothing.

    Returns:
        both (rows,).
    """
    apart = 0.5 * np.abs(softmax(old) - softmax(new)).sum(axis=1)  # (rows,)
    known = np.isfinite(apart)
    return known & (old.argmax(axis=1) == new.argmax(axis=1)), np.where(known, apart, 1).astype(np.float32)


def by_input(same: BoolArray, apart: FloatArray, offsets: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return rows' likeness by input: 1 where all rows are the same, and the mean of their distances, (inputs,)."""
    counts = np.diff(offsets)
    inputs = np.repeat(np.arange(len(counts)), counts)  # (rows,)
    differing = np.bincount(inputs, ~same, len(counts))
    moved = np.bincount(inputs, apart, len(counts)) / np.maximum(counts, 1)
    return (differing == 0).astype(np.float32), moved.astype(np.float32)
