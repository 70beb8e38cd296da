import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from octavo.search.fusion import fuse, interpolated

RANKINGS = st.dictionaries(st.sampled_from(["bm25", "vectors", "other"]), st.lists(st.integers(0, 30), unique=True))


def test_scores_are_sums_of_reciprocal_ranks():
    fused = fuse({"bm25": [7, 8], "vectors": np.array([8, 9])})
    assert [one.number for one in fused] == [8, 7, 9]
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 61)
    assert fused[0].ranks == {"bm25": 2, "vectors": 1}
    assert fuse({"bm25": [1]}, rank_constant=0)[0].score == 1.0


@given(RANKINGS)
def test_every_document_appears_once_by_falling_score(rankings):
    fused = fuse(rankings)
    assert {one.number for one in fused} == {number for numbers in rankings.values() for number in numbers}
    assert len({one.number for one in fused}) == len(fused)
    keys = [(-one.score, one.number) for one in fused]
    assert keys == sorted(keys)


@given(RANKINGS, st.randoms())
def test_the_order_of_the_rankings_does_not_matter(rankings, random):
    names = list(rankings)
    random.shuffle(names)
    again = fuse({name: rankings[name] for name in names})
    assert [(one.number, one.score) for one in again] == [(one.number, one.score) for one in fuse(rankings)]


@given(st.lists(st.integers(0, 50), unique=True))
def test_one_ranking_alone_stays_as_it_is(numbers):
    assert [one.number for one in fuse({"bm25": numbers})] == numbers
    assert [one.number for one in fuse({"bm25": numbers, "vectors": numbers})] == numbers


@given(st.lists(st.integers(0, 20), unique=True, min_size=2), st.lists(st.integers(0, 20), unique=True), st.data())
def test_moving_up_in_a_ranking_never_moves_down_in_the_fusion(numbers, others, data):
    place = data.draw(st.integers(1, len(numbers) - 1))
    better = [*numbers]
    better[place - 1], better[place] = better[place], better[place - 1]
    moved = numbers[place]

    def rank(ours):
        return [one.number for one in fuse({"bm25": ours, "vectors": others})].index(moved)

    assert rank(better) <= rank(numbers)


SCORES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30)


@given(fused=SCORES, data=st.data())
def test_at_the_ends_one_of_the_two_orders_remains(fused, data):
    ranker = data.draw(st.lists(st.floats(-50, 50, width=32), min_size=len(fused), max_size=len(fused)))
    for weight, alone in ((0.0, fused), (1.0, ranker)):
        mixed = interpolated(fused, ranker, weight)
        order = np.argsort(-np.array(alone, np.float64), kind="stable")
        assert (np.diff(mixed[order]) <= 0).all()
        assert mixed.min() >= 0
        assert mixed.max() <= 1


@given(ranker=SCORES, scale=st.floats(0.125, 8), shift=st.floats(-10, 10), weight=st.floats(0, 1))
def test_the_scale_of_a_ranker_does_not_count(ranker, scale, shift, weight):
    fused = 1 / (60 + np.arange(len(ranker)))
    moved = scale * np.array(ranker, np.float64) + shift
    assume(np.ptp(ranker) > 1e-3 or np.ptp(ranker) == np.ptp(moved) == 0)
    assert interpolated(fused, moved, weight) == pytest.approx(interpolated(fused, ranker, weight), abs=1e-6)


def test_a_ranker_that_cannot_tell_leaves_the_fused_order():
    assert interpolated([3.0, 2.0, 1.0], [5.0, 5.0, 5.0], 0.9).tolist() == pytest.approx([0.1, 0.05, 0.0])
    assert interpolated([], [], 0.5).tolist() == []


def test_both_have_their_say():
    mixed = interpolated([4.0, 3.0, 0.0], [-1.0, 1.0, 0.0], 0.5)
    assert mixed.tolist() == pytest.approx([0.5, 0.875, 0.25])
