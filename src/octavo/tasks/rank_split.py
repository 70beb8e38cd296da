"""Candidates as a cross-encoder reads them, and what its scores are worth.

Lists are judged query by query as rankings; where each query has one document only, pairs are judged one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from octavo.data.candidates import Candidates
from octavo.data.retrieval import beginning
from octavo.errors import InputError
from octavo.tasks.base import Answers, Groups, Purpose, Units
from octavo.tasks.probabilities import sigmoid
from octavo.tasks.ranking import MAP, MRR, NDCG, metrics, overlap, ranked
from octavo.types import FloatArray, IntArray, Measure, Outputs, Pair

SIGMOID, IDENTITY = "sigmoid", "identity"
ACCURACY, AUC = "accuracy", "auc"
LONGEST_GROUP = 16  # pairs trained on together

_LEAST_VARIANCE = 1e-6
_KEPT = 3
_RELEVANT, _IRRELEVANT = "relevant", "irrelevant"


@dataclass(frozen=True, slots=True)
class RankSplit:
    """Pairs of query and document, each once, and the lists that they stand in.

    Attributes:
        name: of the split.
        sha256: of its file.
        inputs: pairs of query and document.
        units: the lists, or the pairs themselves where no list is longer than one.
        groups: the lists, long ones in pieces.
        lists: the inputs of each list.
        relevance: grade of each input, 0 for irrelevant; of several for the same pair the highest, (inputs,).
        activation: what users see scores through.
        left_out: queries of the file without a relevant document; training keeps them.
    """

    name: str
    sha256: str
    inputs: Sequence[Pair]
    units: Units
    groups: Groups
    lists: Sequence[IntArray]
    relevance: FloatArray
    activation: str
    left_out: int

    agreement_means: ClassVar[str] = f"of the teacher's top {_KEPT} are kept"
    flip_means: ClassVar[str] = "have another first document"

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Put each list in order and score that. A list without a relevant document weighs nothing."""
        rankings = self._rankings(outputs)
        grades = [dict(enumerate(self.relevance[one].tolist())) for one in self.lists]
        values = metrics(rankings, grades, (NDCG, MRR, MAP))
        counts = np.array([self.relevance[one].max() > 0 for one in self.lists], np.float32)
        tops = [ranking[: top_of(len(ranking))] for ranking in rankings]
        theirs = [ranking[: top_of(len(ranking))] for ranking in self._rankings(teacher)]
        firsts = [int(one[ranking[0]]) for one, ranking in zip(self.lists, rankings, strict=True)]
        return Answers(
            measures=tuple(Measure(name, values[name], counts) for name in (NDCG, MRR, MAP)),
            names=[beginning(self.inputs[first].second) for first in firsts],
            agreement=overlap(tops, theirs),
            confidence=None,
            shown=activated(outputs.values, self.activation),
        )

    def distance(self, outputs: Outputs, teacher: Outputs) -> float:
        """Return the mean squared difference of the logits, in variances of the teacher's."""
        return float(np.square(outputs.values - teacher.values).mean(dtype=np.float64)) / spread(teacher.values)

    def _rankings(self, outputs: Outputs) -> list[IntArray]:
        logits = outputs.values[:, 0]
        return [ranked(logits[one][None])[0] for one in self.lists]


@dataclass(frozen=True, slots=True)
class PairSplit(RankSplit):
    """Pairs that are judged one by one: relevant or not."""

    agreement_means: ClassVar[str] = "of the pairs are judged as the teacher does"
    flip_means: ClassVar[str] = "are judged differently"

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Call a pair relevant from a probability of one half on, which is a logit of 0 whatever the activation.

        Beside accuracy there is `auc`: for a relevant pair, the share of irrelevant ones that score below it, equal
        ones by half.
        """
        order = np.concatenate(self.lists)
        logits, judged = outputs.values[order, 0], self.relevance[order] > 0
        called = logits >= 0
        probability = sigmoid(logits)
        return Answers(
            measures=(
                Measure(ACCURACY, np.asarray(called == judged, np.float32), np.ones(len(order), np.float32)),
                _auc(logits, judged),
            ),
            names=[_RELEVANT if one else _IRRELEVANT for one in called],
            agreement=np.asarray(called == (teacher.values[order, 0] >= 0), np.float32),
            confidence=np.where(called, probability, 1 - probability),
            shown=activated(outputs.values, self.activation),
        )


def split_from_candidates(candidates: Candidates, purpose: Purpose, activation: str) -> RankSplit:
    """Return the split of some candidates: of pairs where no query has two of them, of lists otherwise.

    Raises:
        InputError: lists, none of which has a relevant document.
    """
    in_pairs = all(len(documents) == 1 for documents in candidates.documents)
    answerable = [bool((grades > 0).any()) for grades in candidates.relevance]
    if not in_pairs and not any(answerable):
        raise InputError(f"{candidates.name}: no document is relevant to its query. Grades above 0 say which ones are.")
    keeps_all = in_pairs or purpose is Purpose.TRAIN
    kept = [query for query, has in enumerate(answerable) if has or keeps_all]
    numbers: dict[Pair, int] = {}
    lists = [
        np.array([numbers.setdefault(Pair(candidates.queries[query], text), len(numbers)) for text in texts], np.int64)
        for query in kept
        for texts in [candidates.documents[query]]
    ]
    relevance = np.zeros(len(numbers), np.float32)
    for query, one in zip(kept, lists, strict=True):
        np.maximum.at(relevance, one, candidates.relevance[query])
    return (PairSplit if in_pairs else RankSplit)(
        name=candidates.name,
        sha256=candidates.sha256,
        inputs=tuple(numbers),
        units=_units([candidates.queries[query] for query in kept], list(numbers), lists, relevance, in_pairs),
        groups=_groups(lists),
        lists=lists,
        relevance=relevance,
        activation=activation,
        left_out=0 if in_pairs else answerable.count(False),
    )


def spread(logits: FloatArray) -> float:
    """Return the variance that differences of scores are measured by; 1 where scores are all but equal."""
    variance = float(np.var(logits, dtype=np.float64))
    return variance if variance >= _LEAST_VARIANCE else 1.0


def activated(logits: FloatArray, activation: str) -> FloatArray:
    """Return scores as users see them."""
    return sigmoid(logits) if activation == SIGMOID else logits


def _units(
    queries: Sequence[str], pairs: Sequence[Pair], lists: Sequence[IntArray], relevance: FloatArray, in_pairs: bool
) -> Units:
    firsts = np.array([one[0] for one in lists], np.int64)
    if in_pairs:
        texts = [
            f"{beginning(query)} | {beginning(pairs[one].second)}" for query, one in zip(queries, firsts, strict=True)
        ]
        truth = [_RELEVANT if relevance[one] > 0 else _IRRELEVANT for one in firsts]
        return Units("pair", texts, truth, firsts, item="pair")
    best = [int(one[relevance[one].argmax()]) for one in lists]
    truth = [beginning(pairs[one].second) for one in best]
    return Units("query", queries, truth, firsts, item="pair", timed=np.arange(len(pairs)))


def _groups(lists: Sequence[IntArray]) -> Groups:
    sizes = [min(LONGEST_GROUP, len(one) - first) for one in lists for first in range(0, len(one), LONGEST_GROUP)]
    return Groups(np.concatenate(lists), np.concatenate([[0], np.cumsum(sizes)]))


def top_of(documents: int) -> int:
    """Return how many of a list's first documents are compared: not all of them, which would always agree."""
    return max(1, min(_KEPT, documents - 1))


def _auc(logits: FloatArray, judged: np.ndarray) -> Measure:
    negatives = np.sort(logits[~judged])
    if not len(negatives):
        return Measure(AUC, np.zeros(len(logits), np.float32), np.zeros(len(logits), np.float32))
    below = np.searchsorted(negatives, logits, "left") + np.searchsorted(negatives, logits, "right")  # twice
    gains = np.where(judged, below / (2 * len(negatives)), 0)
    return Measure(AUC, gains.astype(np.float32), judged.astype(np.float32))
