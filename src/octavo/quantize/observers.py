"""From observed activations to a clipping value: one histogram per tensor, four pure ways to read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo.errors import ModelError
from octavo.quantize.fake_quantize import QMAX
from octavo.types import Observer

BINS = 4096
PERCENTILE = 99.99
_CANDIDATES = 100  # clipping values tried by the searching observers, evenly spaced up to the maximum
_LEVELS = QMAX + 1  # levels for magnitudes: symmetric int8 has 0 to 127 on each side
_EXACT_COUNT = 2**24  # torch counts in float32, which holds whole numbers exactly up to here


@dataclass
class Histogram:
    """Counts of |x| in equal bins from 0 to below `limit`, which doubles when a larger value comes.

    The limit is a power of two and doubling merges neighbouring bins, so that the counts depend neither on
    the order of the batches nor on how the data was cut into them.
    """

    limit: float = 0.0
    amax: float = 0.0
    counts: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, x: Tensor) -> None:
        """Count the values of a tensor of any shape.

        Raises:
            ModelError: NaN or infinity among the values.
        """
        magnitudes = x.detach().abs().flatten().float()
        largest = float(magnitudes.max()) if magnitudes.numel() else 0.0
        if not math.isfinite(largest):
            raise ModelError("The model's activations hold NaN or infinity, so it cannot be calibrated.")
        self.amax = max(self.amax, largest)
        if self.limit == 0.0 and largest > 0.0:
            self.limit = math.ldexp(1.0, math.frexp(largest)[1])  # the next power of two above it
        while largest >= self.limit > 0.0:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2)])
            self.limit *= 2
        if self.limit == 0.0:
            self.counts[0] += magnitudes.numel()
        else:
            for part in torch.split(magnitudes, _EXACT_COUNT):
                self.counts += torch.histc(part, BINS, 0.0, self.limit).double().numpy()

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The middle of each bin, (BINS,)."""
        return (np.arange(BINS, dtype=np.float64) + 0.5) * (self.limit / BINS)


def amax_from_histogram(histogram: Histogram, observer: Observer) -> float:
    """Return the clipping value that `observer` reads off the histogram; 0 if only zeros were seen."""
    if histogram.amax == 0.0:
        return 0.0
    match observer:
        case Observer.MAX:
            return histogram.amax
        case Observer.PERCENTILE:
            return _percentile(histogram)
        case Observer.MSE:
            return _best(histogram, _squared_error)
        case Observer.ENTROPY:
            return _best(histogram, _divergence)


def _percentile(histogram: Histogram) -> float:
    cumulative = np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(cumulative, cumulative[-1] * PERCENTILE / 100))
    return min((bin_ + 1) * histogram.limit / BINS, histogram.amax)


def _best(histogram: Histogram, cost: object) -> float:
    """Return the candidate of least cost; of equal ones the largest, which clips least."""
    assert callable(cost)
    candidates = histogram.amax * np.arange(_CANDIDATES, _CANDIDATES // 10, -1) / _CANDIDATES
    return float(candidates[int(np.argmin([cost(histogram, float(amax)) for amax in candidates]))])


def _squared_error(histogram: Histogram, amax: float) -> float:
    """Sum of squared rounding and clipping errors."""
    centers, scale = histogram.centers, amax / QMAX
    rounded = np.minimum(np.round(centers / scale), QMAX) * scale
    return float(histogram.counts @ (centers - rounded) ** 2)


def _divergence(histogram: Histogram, amax: float) -> float:
    """KL divergence from the observed distribution to its quantized form (TensorRT's entropy calibration).

    Migacz, "8-bit inference with TensorRT", GTC 2017. Clipped mass is added to the last bin of the reference
    only, so clipping much costs much.
    """
    kept = min(max(int(np.ceil(amax * BINS / histogram.limit)), _LEVELS), BINS)
    counts = histogram.counts[:kept]
    reference = counts.copy()
    reference[-1] += histogram.counts[kept:].sum()
    occupied = counts > 0
    level = np.arange(kept) * _LEVELS // kept
    mass = np.bincount(level, counts, _LEVELS)
    bins = np.bincount(level, occupied, _LEVELS)
    quantized = np.where(occupied, (mass / np.maximum(bins, 1))[level], 0.0)
    if reference[-1] > 0 and quantized[-1] == 0:
        quantized[-1] = 1e-9 * reference.sum()  # clipped mass in an empty bin: dear, yet finite
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-12)
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))
