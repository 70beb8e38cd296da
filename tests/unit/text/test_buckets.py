import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engines.guard import dummy_batch
from octavo.text.batch import TokenBatch
from octavo.text.buckets import shape_of, single_shapes
from octavo.text.layout import layout_from_batch

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=80) | st.lists(st.integers(1, 24), min_size=1, max_size=80)


def batch_of(lengths: list[int]) -> TokenBatch:
    return TokenBatch.from_sequences([[7] * n for n in lengths])


def size_of(batch: TokenBatch) -> tuple[int, int, int]:
    return batch.tokens, len(batch), batch.max_length


@given(lengths)
def test_a_bucket_holds_its_batch(lengths):
    batch = batch_of(lengths)
    assert all(bucket >= size for bucket, size in zip(shape_of(batch), size_of(batch), strict=True))
    assert layout_from_batch(batch, shape=shape_of(batch)).shape == shape_of(batch)


@given(lengths)
def test_overhead_is_bounded_as_documented(lengths):
    batch = batch_of(lengths)
    (tokens, sequences, length), (had_tokens, had_sequences, had_length) = shape_of(batch), size_of(batch)
    for bucket, size in ((tokens, had_tokens), (length, had_length)):
        assert bucket < size + 4 if size <= 32 else bucket < 1.25 * size
    assert sequences < 1.5 * had_sequences


@pytest.mark.parametrize("lengths", [[513], [4097], [40_000], [64] * 64 + [1], [400] * 12, [512] * 300])
def test_overhead_is_bounded_beyond_the_grid(lengths):
    batch = batch_of(lengths)
    for bucket, size in zip(shape_of(batch), size_of(batch), strict=True):
        assert size <= bucket < 1.25 * size + 4


@given(lengths)
def test_buckets_are_fixed_points(lengths):
    shape = shape_of(batch_of(lengths))
    assert shape_of(dummy_batch(shape)) == shape  # which also warms exactly this bucket up


@given(lengths, st.data())
def test_a_larger_batch_has_no_smaller_bucket(lengths, data):
    more = lengths + data.draw(st.lists(st.integers(1, 64), min_size=1, max_size=4))
    pairs = zip(shape_of(batch_of(lengths)), shape_of(batch_of(more)), strict=True)
    # One sequence is a bucket of its own kind, in which tokens are rounded as a length.
    assert len(lengths) == 1 or all(small <= large for small, large in pairs)


def test_shapes_recur():
    singles = {shape_of(batch_of([n])) for n in range(1, 513)}
    assert len(singles) <= 24
    totals = {shape_of(batch_of([a, b]))[0] for a in range(1, 300, 7) for b in range(1, 300, 7)}
    assert len(totals) <= 40


@pytest.mark.parametrize("max_length", [1, 3, 4, 5, 32, 100, 128, 512, 513, 2048])
def test_single_shapes_are_those_that_single_sequences_take(max_length):
    taken = sorted({shape_of(batch_of([n])) for n in range(1, max_length + 1)})
    assert single_shapes(max_length) == taken


def test_a_bucket_that_no_batch_has():
    with pytest.raises(ValueError, match="no batch has the bucket"):
        dummy_batch((4, 8, 4))
