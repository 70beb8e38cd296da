"""Reciprocal rank fusion: several rankings of the same documents into one, by ranks alone.

A document's score is the sum over rankings of 1 / (k + rank). Scores of BM25 and of vectors cannot be compared; their
ranks can. Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods". A pure function: knows no index and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octavo.types import IntArray

RANK_CONSTANT = 60


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
        for rank, number in enumerate(numbers, 1):
            ranks.setdefault(int(number), {})[name] = rank
    fused = [
        Fused(number, sum(1 / (rank_constant + rank) for rank in sorted(found.values())), found)
        for number, found in ranks.items()
    ]
    return sorted(fused, key=lambda one: (-one.score, one.number))
