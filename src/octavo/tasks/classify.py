"""Task `classify`: one label per text, such as a query's intent.

Knows labels, the decoding of logits and the metric. Knows no model, no engine and no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.data.labels import unknown_label
from octavo.errors import InputError, ModelError
from octavo.types import FloatArray, IntArray, Json, Row

NAME = "classify"
METRIC = "accuracy"
ROW_FORMAT = '{"text": "...", "label": "..."}'


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one text: its label, that label's probability, and the likeliest labels in order."""

    label: str
    confidence: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Classify:
    """A classification over `labels`; output `i` of the head belongs to `labels[i]`."""

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise ModelError(f"Classification needs at least 2 labels, and there are {len(self.labels)}.")
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise ModelError(f"The label '{twice}' occurs twice; the model's answers would be ambiguous.")

    @classmethod
    def from_config(cls, config: Json) -> Classify:
        """Return the task of a Hugging Face `config.json`: its `id2label`, in the order of the ids.

        Raises:
            ModelError: there is no usable `id2label`, or the head is not a single-label classifier.
        """
        problem = config.get("problem_type")
        if problem not in (None, "single_label_classification"):
            raise ModelError(f"config.json: problem_type is '{problem}'; {NAME} needs one label per text.")
        names = config.get("id2label")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ModelError('config.json: there is no id2label such as {"0": "refund", "1": "greeting"}. Add it.')
        by_id = {str(key): name for key, name in names.items()}
        try:
            return cls(tuple(by_id[str(i)] for i in range(len(by_id))))
        except KeyError as error:
            missing = error.args[0]
            raise ModelError(f"config.json: id2label has {len(by_id)} entries but none for id {missing}.") from error

    def truth(self, rows: Sequence[Row]) -> IntArray:
        """Return the label ids of `rows`, (rows,).

        Raises:
            InputError: a row's label is missing or unknown; names `file:line` and suggests near labels.
        """
        ids = {label: i for i, label in enumerate(self.labels)}
        for row in rows:
            if row.label not in ids:
                raise unknown_label(row, self.labels)
        return np.array([ids[row.label] for row in rows if row.label is not None], np.int64)

    def decode(self, logits: FloatArray, *, top_k: int = 5) -> list[Classification]:
        """Return the answer for each row of `logits`, (batch, labels), with the `top_k` highest scores.

        Of labels with equal logits the first one wins, here as in `score`.
        """
        self._check_shape(logits)
        if top_k < 1:
            raise InputError(f"top_k is {top_k} and must be at least 1.")
        best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]  # (batch, top_k)
        probabilities = np.take_along_axis(softmax(logits), best, axis=1)  # (batch, top_k)
        return [
            self._classification(ids, values) for ids, values in zip(best.tolist(), probabilities.tolist(), strict=True)
        ]

    def score(self, logits: FloatArray, truth: IntArray) -> FloatArray:
        """Return 1.0 for each row whose likeliest label is the true one and 0.0 for the others, (rows,)."""
        self._check_shape(logits)
        if len(truth) != len(logits):
            raise InputError(f"There are {len(logits)} rows of logits and {len(truth)} true labels.")
        return np.asarray(logits.argmax(axis=1) == truth, np.float32)

    def _classification(self, ids: list[int], values: list[float]) -> Classification:
        scores = {self.labels[i]: value for i, value in zip(ids, values, strict=True)}
        return Classification(self.labels[ids[0]], values[0], scores)

    def _check_shape(self, logits: FloatArray) -> None:
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise ModelError(f"The head's output has shape {logits.shape}, and there are {len(self.labels)} labels.")


def softmax(logits: FloatArray) -> FloatArray:
    """Return the probabilities of each row; large logits do not overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)
