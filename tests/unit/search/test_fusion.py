import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.search.fusion import fuse

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
