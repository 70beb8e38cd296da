"""Where does the engine lose? The same comparison per label and per token length. Gates nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from octavo.certify.statistics import paired_bootstrap
from octavo.types import IntArray, Interval, Measure

_RESAMPLES = 2_000  # a slice is looked at, not decided upon


class Slice(msgspec.Struct, frozen=True):
    """One part of the held-out units.

    Attributes:
        name: the label, or the band of token lengths.
        rows: units in it.
        teacher: the teacher's measure.
        engine: the engine's measure.
        difference: engine minus teacher, with its 95% interval.
    """

    name: str
    rows: int
    teacher: float
    engine: float
    difference: Interval


def slices_by(names: Sequence[str], teacher: Measure, engine: Measure, *, seed: int = 0) -> list[Slice]:
    """Compare the units of each name on their own, worst difference first.

    Args:
        names: the slice that each unit belongs to, (units,).
        teacher: a measure of the teacher's answers.
        engine: the same measure of the engine's answers.
        seed: of the bootstrap.

    Raises:
        InputError: measures that cannot be compared.
    """
    members: dict[str, list[int]] = {}
    for unit, name in enumerate(names):
        members.setdefault(name, []).append(unit)
    slices = [_slice(name, _part(teacher, units), _part(engine, units), seed) for name, units in members.items()]
    return sorted(slices, key=lambda s: (s.difference.value, s.difference.low, s.name))


def length_bands(lengths: Sequence[int] | IntArray) -> list[str]:
    """Name each unit's band of token lengths, (units,): about a quarter of the units in each.

    Units of equal length share a band, so that where most are equally long there are fewer than four.
    """
    tokens = np.asarray(lengths, np.int64)
    if not len(tokens):
        return []
    quartiles = np.quantile(tokens, (0.25, 0.5, 0.75), method="higher").astype(np.int64)
    starts = np.unique(np.append(tokens.min(), quartiles[quartiles > tokens.min()]))
    ends = np.append(starts[1:] - 1, tokens.max())
    names = [_band(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
    return [names[band] for band in np.searchsorted(starts, tokens, side="right") - 1]


def _part(measure: Measure, units: list[int]) -> Measure:
    return Measure(measure.name, measure.gains[units], measure.weights[units])


def _slice(name: str, teacher: Measure, engine: Measure, seed: int) -> Slice:
    comparison = paired_bootstrap(teacher, engine, resamples=_RESAMPLES, seed=seed)
    return Slice(name, comparison.rows, comparison.teacher.value, comparison.engine.value, comparison.difference)


def _band(start: int, end: int) -> str:
    if start == end:
        return f"{start} token{'s' if start != 1 else ''}"
    return f"{start}–{end} tokens"
