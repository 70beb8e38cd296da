"""Reciprocal rank fusion: several rankings of the same documents into one, by ranks alone.

A document's score is the sum over rankings of 1 / (k + rank). Scores of BM25 and of vectors cannot be compared; their
ranks can. Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods". The fused order is then mixed with a ranker's. Pure functions: they know no index and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.types import IntArray

RANK_CONSTANT = 60

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fused:
    """A document that at least one ranking holds.

    Attributes:
        number: of the document.
        score: the sum of its reciprocal ranks.
        ranks: from 1, by the name of each ranking that holds it.
    """

    number: int
    score: float
    ranks: dict[str, int]


def fuse(rankings: Mapping[str, Sequence[int] | IntArray], *, rank_constant: int = RANK_CONSTANT) -> list[Fused]:
    """Return the documents of all rankings, the highest score first; of equal scores, the lower number.

    Args:
        rankings: by name, numbers of documents, best first, each at most once.
        rank_constant: the larger, the less the first ranks stand out.
    """
    ranks: dict[int, dict[str, int]] = {}
    for name, numbers in rankings.items():
        for rank, number in enumerate(map(int, numbers), 1):
            ranks.setdefault(number, {})[name] = rank
    longest = max(map(len, rankings.values()), default=0)
    shares = [1 / (rank_constant + rank) for rank in range(1, longest + 1)]
    fused = [
        # Sorted, so that the order of the rankings changes no bit of the sum.
        Fused(number, sum([shares[rank - 1] for rank in sorted(found.values())]), found)
        for number, found in ranks.items()
    ]
    return sorted(fused, key=lambda one: (-one.score, one.number))


def interpolated(fused: npt.ArrayLike, ranker: npt.ArrayLike, weight: float) -> Scores:
    """Return (1 - weight) · fused + weight · ranker, each first spread over 0 to 1 within the list, (documents,).

    Args:
        fused: fused scores of the documents of one list, (documents,).
        ranker: a ranker's scores of the same, on any scale, (documents,).
        weight: of the ranker; at 1 the order is the ranker's, at 0 the fused one.
    """
    return (1 - weight) * _spread(fused) + weight * _spread(ranker)


def _spread(scores: npt.ArrayLike) -> Scores:
    values = np.asarray(scores, np.float64)
    if not len(values) or (width := float(np.ptp(values))) == 0:  # all alike: no say in the order
        return np.zeros_like(values)
    return np.asarray((values - values.min()) / width)
