"""Batches out of parts of batches: what an engine is given is what was tokenized."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.serve.packing import concatenated, rows_between

HEADS = ("classify", "pairs", "words", "last")


def assert_same(one, other):
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.read_places, other.read_places)
    assert (one.segments is None) == (other.segments is None)
    assert one.segments is None or np.array_equal(one.segments, other.segments)


@st.composite
def cuts(draw):
    """Lengths of some batches, and a range of rows of each."""
    lengths = draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4))
    starts = [draw(st.integers(0, len(each) - 1)) for each in lengths]
    return [(each, start, draw(st.integers(start + 1, len(each)))) for each, start in zip(lengths, starts, strict=True)]


@given(drawn=cuts(), head=st.sampled_from(HEADS))
def test_rows_of_several_batches_are_those_rows(make_batch, drawn, head):
    batches = [make_batch(lengths, seed, head) for seed, (lengths, _, _) in enumerate(drawn)]
    parts = [rows_between(batch, start, stop) for batch, (_, start, stop) in zip(batches, drawn, strict=True)]
    for part, batch, (_, start, stop) in zip(parts, batches, drawn, strict=True):
        assert_same(part, batch.select(range(start, stop)))
    whole = concatenated(batches)
    first = np.cumsum([0, *map(len, batches)])
    chosen = [first[i] + row for i, (_, start, stop) in enumerate(drawn) for row in range(start, stop)]
    assert_same(concatenated(parts), whole.select(chosen))


@pytest.mark.parametrize("head", HEADS)
def test_a_whole_batch_is_not_copied(head, make_batch):
    batch = make_batch([3, 4], head=head)
    assert rows_between(batch, 0, 2) is batch
    assert concatenated([batch]) is batch
    assert rows_between(batch, 1, 2).ids.base is batch.ids


def test_texts_and_pairs_of_texts_may_share_a_batch(make_batch):
    texts, pairs = make_batch([3]), make_batch([4], head="pairs")
    both = concatenated([texts, pairs])
    assert both.segments.tolist() == [0, 0, 0, *pairs.segments.tolist()]
