"""Logits to probabilities, and how far two sets of them are apart. NumPy only."""

from __future__ import annotations

import numpy as np

from octavo.types import FloatArray


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return the logarithm of each row's probabilities; large logits do not overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)


def softmax(logits: FloatArray) -> FloatArray:
    """Return the probabilities of each row; large logits do not overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def divergence(logits: FloatArray, teacher: FloatArray) -> FloatArray:
    """Return KL(teacher ‖ student) of each row of logits, (rows,)."""
    target, answer = log_softmax(teacher), log_softmax(logits)
    return np.asarray((np.exp(target) * (target - answer)).sum(axis=-1), np.float32)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-logits)); large ones do not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))), np.float32)
