"""Small types that several rooms share. Knows no file format, no engine and no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Json = dict[str, Any]


class Verdict(StrEnum):
    """What a certificate decides."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Observer(StrEnum):
    """How calibration turns observed activations into a clipping value (amax)."""

    MAX = "max"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


class Scheme(StrEnum):
    """How the activations that enter a linear layer get their scales."""

    PER_TENSOR = "per-tensor"  # one constant each, learned or calibrated: what every engine runs
    PER_TOKEN = "per-token"  # each row's own largest value, found while it is computed: what the native engine can do


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its 95% interval, as fractions (0.01 is one point)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One example of a data set: a text, with its label where there is one, and where it was read."""

    text: str
    label: str | None = None
    source: str = ""  # "file:line", for error messages
    second: str | None = None  # of a pair of texts, the other one


@dataclass(frozen=True, slots=True)
class Rows:
    """A split of a data set: its rows, and the sha256 of the file(s) that they were read from."""

    name: str
    rows: Sequence[Row]
    sha256: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [row.text for row in self.rows]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts in one sequence, such as a query and a document. The second may be cut, the first never is."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Words:
    """A text that has been divided into words, each of which gets an answer of its own."""

    words: tuple[str, ...]


# What a model reads as one sequence.
Input = str | Pair | Words


def texts_of_input(given: Input) -> tuple[str, ...]:
    """Return the one or two texts that an input is made of."""
    if isinstance(given, Pair):
        return given.first, given.second
    return (" ".join(given.words),) if isinstance(given, Words) else (given,)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model puts out for some inputs: input `i` has the rows `offsets[i]` to `offsets[i + 1]` of `values`.

    Attributes:
        values: one row per token that the head reads, (rows, width).
        offsets: where each input's rows start, and the end, (inputs + 1,).
    """

    values: FloatArray
    offsets: IntArray

    @classmethod
    def one_each(cls, values: FloatArray) -> Outputs:
        """Return outputs of one row per input."""
        return cls(values, np.arange(len(values) + 1))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> FloatArray:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def select(self, inputs: Sequence[int] | IntArray) -> Outputs:
        """Return the outputs of some inputs, in that order."""
        chosen = np.asarray(inputs, np.int64)
        counts = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], counts)
        return Outputs(self.values[rows], offsets)


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric in parts: over any set of units it is the sum of their gains by the sum of their weights.

    A mean (accuracy, nDCG) has weights of 1; F1 has gains of 2 · true positives and weights of predicted + true
    entities. So one bootstrap resamples them all.

    Attributes:
        name: as the field writes it, such as `accuracy`, `f1` or `ndcg@10`.
        gains: (units,), each at most its weight and not below 0.
        weights: (units,), not below 0.
        gates: the certificate passes only if this metric is non-inferior too.
    """

    name: str
    gains: FloatArray
    weights: FloatArray
    gates: bool = False

    @property
    def value(self) -> float:
        """The metric over all units; 1 where nothing has weight, as nothing was missed."""
        total = float(self.weights.sum(dtype=np.float64))
        return float(self.gains.sum(dtype=np.float64)) / total if total else 1.0
