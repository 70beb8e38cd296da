"""Rankings out of scores, and what they are worth against graded documents.

Knows scores, positions and grades; knows no texts and no models. The metrics are those of trec_eval, by ir-measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import ir_measures
import numpy as np

from octavo.types import FloatArray, IntArray

NDCG, MRR, RECALL, MAP = "ndcg@10", "mrr@10", "recall@10", "map"
CUTOFF = 10

_MEASURES = {NDCG: "nDCG@10", MRR: "RR", RECALL: "R@10", MAP: "AP"}
_SCORES_AT_ONCE = 8_000_000  # 32 MB of them
_FINEST_GRADE = 1000


def top_documents(
    queries: FloatArray, documents: FloatArray, k: int, columns: IntArray | None = None
) -> list[IntArray]:
    """Return the numbers of the `k` documents of highest dot product with each query, best first.

    Of equal scores the earlier document comes first; what is not a number counts as lowest.

    Args:
        queries: (queries, width).
        documents: distinct vectors, (vectors, width).
        k: documents per query; all where there are fewer.
        columns: the vector of each document, so that equal texts get equal scores, (documents,); None for one each.
    """
    block = max(1, _SCORES_AT_ONCE // max(1, len(documents) if columns is None else len(columns)))
    found: list[IntArray] = []
    for first in range(0, len(queries), block):
        scores = queries[first : first + block] @ documents.T  # (block, vectors)
        scores = scores if columns is None else scores[:, columns]  # (block, documents)
        found += ranked(scores, k)
    return found


def ranked(scores: FloatArray, k: int | None = None) -> list[IntArray]:
    """Return the positions of the `k` highest scores of each row (None: of all), best first, ties by position."""
    count = scores.shape[1] if k is None else min(k, scores.shape[1])
    if not count:
        return [np.empty(0, np.int64) for _ in scores]
    known = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    lowest = np.partition(known, -count, axis=1)[:, -count]  # (rows,), of those that are in
    return [_first_of(row, at_least, count) for row, at_least in zip(known, lowest, strict=True)]


def metrics(
    rankings: Sequence[IntArray], grades: Sequence[Mapping[int, float]], names: Sequence[str]
) -> dict[str, FloatArray]:
    """Return the value of each metric for each query, (queries,); 0 where nothing is relevant.

    `ndcg@10` is trec_eval's: a document's gain is its grade, the discount is log2(rank + 1), and the ideal ranking is
    that of all graded documents. `mrr@10`, `recall@10` and `map` count grades above 0 as relevant. trec_eval reads
    whole grades only: where a query has others, they are rounded to thousandths of its highest.

    Args:
        rankings: of each query, document numbers, best first; only the first 10 are needed, but for `map` all.
        grades: of each query, the grades by document number; those left out are 0.
        names: of the metrics.
    """
    values = {name: np.zeros(len(grades), np.float32) for name in names}
    judged = {str(query): whole for query, graded in enumerate(grades) if (whole := _whole_grades(graded))}
    # trec_eval's reciprocal rank knows no cutoff, so that the rankings are cut for it.
    for some, cutoff in ((set(names) - {MAP}, CUTOFF), (set(names) & {MAP}, None)):
        asked = {_measure(name): name for name in some}
        if asked and judged:
            for value in ir_measures.pytrec_eval.evaluator(list(asked), judged).iter_calc(_run(rankings, cutoff)):
                values[asked[value.measure]][int(value.query_id)] = min(1.0, value.value)
    return values


def overlap(rankings: Sequence[IntArray], others: Sequence[IntArray]) -> FloatArray:
    """Return the share of each of `others` that is in the ranking of the same query, (queries,); 1 for empty ones."""
    shares = [
        len(set(one.tolist()) & set(other.tolist())) / len(other) if len(other) else 1.0
        for one, other in zip(rankings, others, strict=True)
    ]
    return np.array(shares, np.float32)


def _first_of(row: FloatArray, at_least: np.float32, count: int) -> IntArray:
    at = np.flatnonzero(row >= at_least)
    return at[np.argsort(-row[at], kind="stable")][:count]


def _run(rankings: Sequence[IntArray], cutoff: int | None) -> dict[str, dict[str, float]]:
    """Return rankings as trec_eval takes them: scores fall strictly with the rank, so that no tie is left to it."""
    return {
        str(query): {str(document): float(-rank) for rank, document in enumerate(ranking[:cutoff].tolist())}
        for query, ranking in enumerate(rankings)
    }


@cache
def _measure(name: str) -> Any:
    return ir_measures.parse_measure(_MEASURES[name])


def _whole_grades(grades: Mapping[int, float]) -> dict[str, int]:
    """Return grades as trec_eval takes them; gains are linear, so that a factor does not change nDCG."""
    positive = {document: grade for document, grade in grades.items() if grade > 0}
    highest = max(positive.values(), default=0.0)
    if highest <= _FINEST_GRADE and all(float(grade).is_integer() for grade in positive.values()):
        return {str(document): int(grade) for document, grade in positive.items()}
    factor = _FINEST_GRADE / highest
    return {str(document): max(1, round(grade * factor)) for document, grade in positive.items()}
