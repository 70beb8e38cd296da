import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octavo.tasks import ranking
from octavo.tasks.ranking import MAP, MRR, NDCG, RECALL, metrics, overlap, ranked, top_documents

few_values = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


def _textbook(order, grades):
    """Return the four metrics by their definitions."""
    gains = [grades.get(document, 0) for document in order]
    ideal = sorted(grades.values(), reverse=True)
    discounted = [sum(g / np.log2(rank + 2) for rank, g in enumerate(some[:10])) for some in (gains, ideal)]
    hits = [rank for rank, gain in enumerate(gains) if gain > 0]
    relevant = sum(grade > 0 for grade in grades.values())
    return {
        NDCG: discounted[0] / discounted[1],
        MRR: next((1 / (rank + 1) for rank in hits if rank < 10), 0.0),
        RECALL: sum(rank < 10 for rank in hits) / relevant,
        MAP: sum((i + 1) / (rank + 1) for i, rank in enumerate(hits)) / relevant,
    }


@given(
    st.permutations(list(range(15))),
    st.dictionaries(st.integers(0, 20), st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1),
)
def test_metrics_are_those_of_the_textbook(order, grades):
    if not any(grades.values()):
        grades[3] = 1.0
    found = metrics([np.array(order)], [grades], (NDCG, MRR, RECALL, MAP))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(_textbook(order, grades), abs=1e-6)


def test_grades_that_are_no_whole_numbers_are_rounded_finely():
    grades = {0: 0.25, 1: 1.0, 2: 0.6}
    found = metrics([np.array([0, 1, 2])], [grades], (NDCG, MRR))
    assert found[NDCG][0] == pytest.approx(_textbook([0, 1, 2], grades)[NDCG], abs=2e-3)
    assert metrics([np.array([0, 1])], [{0: 1e-7, 1: 1.0}], (MRR,))[MRR][0] == 1  # above 0 stays above 0
    assert metrics([np.array([0, 1])], [{0: 1e9}], (NDCG,))[NDCG][0] == 1


def test_a_query_without_relevant_documents_gets_0():
    found = metrics([np.array([0, 1]), np.array([1, 0]), np.array([], np.int64)], [{}, {0: 1.0}, {1: 1.0}], (NDCG, MRR))
    assert found[MRR].tolist() == [0, 0.5, 0]
    assert metrics([np.array([0])], [{}], (MRR,))[MRR].tolist() == [0]


@given(arrays(np.float32, (3, 12), elements=few_values), st.integers(1, 14))
def test_ties_are_broken_by_position(scores, k):
    for row, found in zip(scores, ranked(scores, k), strict=True):
        assert found.tolist() == sorted(range(12), key=lambda i: (-row[i], i))[:k]


def test_what_is_not_a_number_comes_last():
    scores = np.array([[np.nan, 1, np.inf, -np.inf]], np.float32)
    assert ranked(scores)[0].tolist() == [2, 1, 0, 3]
    assert ranked(np.full((1, 3), np.nan, np.float32), 2)[0].tolist() == [0, 1]
    assert [one.tolist() for one in ranked(np.empty((2, 0), np.float32), 5)] == [[], []]


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype(np.float32)
    whole = top_documents(queries, documents, 10)
    assert [one.tolist() for one in whole] == [np.argsort(-row)[:10].tolist() for row in queries @ documents.T]
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 100)
    assert [one.tolist() for one in top_documents(queries, documents, 10)] == [one.tolist() for one in whole]


def test_documents_of_one_vector_tie_by_number():
    documents = np.array([[1.0], [2.0]], np.float32)
    order = top_documents(np.array([[1.0]], np.float32), documents, 4, np.array([1, 0, 1, 0]))
    assert order[0].tolist() == [0, 2, 1, 3]


def test_overlap_is_the_share_that_is_kept():
    one, other = [np.array([1, 2, 3]), np.array([1]), np.array([1])], [np.array([3, 9]), np.array([2]), np.array([])]
    assert overlap(one, other).tolist() == [0.5, 0, 1]
