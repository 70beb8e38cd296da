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
