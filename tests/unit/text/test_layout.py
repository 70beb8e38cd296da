import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, MASKED, NO_OFFSET, PackedLayout, Positions, layout_from_batch

sequences = st.lists(st.lists(st.integers(1, 999), min_size=1, max_size=9), min_size=1, max_size=6)
spare = st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 5))


def attended(layout: PackedLayout, batch: TokenBatch) -> list[list[list[tuple[int, int]]]]:
    """For each real token, by sequence: the (id, position) of every token that it attends to, in order."""
    length = layout.slots.shape[1]
    seen = []
    for start, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        rows_of_attention = {int(layout.rows[token]) // length for token in range(start, end)}
        assert len(rows_of_attention) == 1  # a sequence's tokens share one row
        row = rows_of_attention.pop()
        tokens = layout.slots[row][layout.mask[row] == 0]
        seen.append([[(int(layout.input_ids[t]), int(layout.position_ids[t])) for t in tokens]] * (end - start))
    return seen


def widened(batch: TokenBatch, spare: tuple[int, int, int]) -> tuple[int, int, int]:
    return batch.tokens + spare[0], len(batch) + spare[1], batch.max_length + spare[2]


@given(sequences, st.sampled_from([0, 2]), spare)
def test_each_token_attends_to_its_own_sequence_and_no_padding(rows, offset, spare):
    batch = TokenBatch.from_sequences(rows)
    expected = [[[(id_, place + offset) for place, id_ in enumerate(row)]] * len(row) for row in rows]
    for shape in (None, widened(batch, spare)):
        assert attended(layout_from_batch(batch, Positions(offset), shape), batch) == expected


@given(sequences, spare)
def test_rows_takes_back_what_slots_spread_out(rows, spare):
    batch = TokenBatch.from_sequences(rows)
    layout = layout_from_batch(batch, shape=widened(batch, spare))
    back = layout.input_ids[layout.slots.ravel()[layout.rows]]
    assert back[: batch.tokens].tolist() == batch.ids.tolist()


@given(sequences, spare)
def test_the_first_token_of_each_sequence_is_read(rows, spare):
    batch = TokenBatch.from_sequences(rows)
    layout = layout_from_batch(batch, shape=widened(batch, spare))
    assert layout.input_ids[layout.read[: len(rows)]].tolist() == [row[0] for row in rows]
    assert layout.position_ids[layout.read[: len(rows)]].tolist() == [0] * len(rows)
    assert layout.read.shape == (len(rows) + spare[1],)


@given(sequences, spare, st.data())
def test_what_is_read_of_some_sequences_comes_first_and_padding_reads_token_0(rows, spare, data):
    places = [data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=4).map(sorted)) for row in rows]
    batch = TokenBatch.from_sequences(rows, reads=places)
    layout = layout_from_batch(batch, shape=widened(batch, spare))
    expected = [row[place] for row, chosen in zip(rows, places, strict=True) for place in chosen]
    assert layout.input_ids[layout.read[: len(expected)]].tolist() == expected
    assert not layout.read[len(expected) :].any()


def test_reads_are_padded_to_a_size_of_the_shape():
    words = TokenBatch.from_sequences([[1, 2, 3], [4, 5]], reads=[[0, 1, 2], [0]])
    assert layout_from_batch(words, shape=(8, 4, 4)).read.shape == (8,)
    one_each = TokenBatch.from_sequences([[1, 2, 3], [4, 5]], reads=[[2], [1]])
    assert layout_from_batch(one_each, shape=(8, 4, 4)).read.tolist() == [2, 4, 0, 0]
    # Without special tokens the first token is read for the sequence and for the first word.
    twice = TokenBatch.from_sequences([[1, 2]], reads=[[0, 0, 1]])
    assert layout_from_batch(twice).read.tolist() == [0, 0, 1]


@given(sequences, st.sampled_from([0, 2]), st.sampled_from([0, 512]), spare, st.data())
def test_segments_choose_among_the_tables_of_positions(rows, offset, stride, spare, data):
    segments = [data.draw(st.lists(st.integers(0, 1), min_size=len(row), max_size=len(row))) for row in rows]
    batch = TokenBatch.from_sequences(rows, segments)
    layout = layout_from_batch(batch, Positions(offset, stride), widened(batch, spare))
    expected = [place + offset + stride * segment for row in segments for place, segment in enumerate(row)]
    assert layout.position_ids[: batch.tokens].tolist() == expected
    assert not layout.position_ids[batch.tokens :].any()


def test_a_batch_without_segments_is_all_of_the_first_one():
    rows = [[1, 2, 3], [4]]
    plain, zeros = TokenBatch.from_sequences(rows), TokenBatch.from_sequences(rows, [[0, 0, 0], [0]])
    first, second = (layout_from_batch(batch, Positions(2, 512)).position_ids for batch in (plain, zeros))
    assert first.tolist() == second.tolist() == [2, 3, 4, 2]
    assert layout_from_batch(plain, NO_OFFSET).position_ids.tolist() == [0, 1, 2, 0]


@given(sequences, st.sampled_from([0, 2]), spare)
def test_every_index_lies_within_its_table(rows, offset, spare):
    batch = TokenBatch.from_sequences(rows)
    shape = widened(batch, spare)
    layout = layout_from_batch(batch, Positions(offset), shape)
    assert layout.shape == shape
    tokens, sequences, length = shape
    for indices, size in ((layout.slots, tokens), (layout.rows, sequences * length), (layout.read, tokens)):
        assert indices.min() >= 0
        assert indices.max() < size
    assert layout.position_ids.max() < batch.max_length + offset  # padding asks for no position of its own
    assert set(np.unique(layout.mask)) <= {0.0, MASKED}


@given(sequences)
def test_padding_sequences_see_no_token(rows):
    batch = TokenBatch.from_sequences(rows)
    layout = layout_from_batch(batch, shape=widened(batch, (1, 2, 3)))
    assert (layout.mask[len(rows) :] == MASKED).all()


def test_an_empty_batch():
    layout = layout_from_batch(TokenBatch.from_sequences([]))
    assert layout.shape == (0, 0, 0)


@pytest.mark.parametrize("shape", [(4, 2, 3), (5, 1, 3), (5, 2, 2)])
def test_a_shape_that_is_too_small_is_refused(shape):
    with pytest.raises(ValueError, match="cannot hold 5 tokens in 2 sequences"):
        layout_from_batch(TokenBatch.from_sequences([[1, 2, 3], [4, 5]]), shape=shape)


def test_types_are_those_of_the_exported_graph():
    layout = layout_from_batch(TokenBatch.from_sequences([[1, 2], [3]]), shape=(8, 4, 4))
    types = {name: getattr(layout, name).dtype for name in INPUT_NAMES}
    assert types == {name: np.float32 if name == "mask" else np.int64 for name in INPUT_NAMES}


def test_the_mask_survives_half_precision():
    assert np.isfinite(np.float16(MASKED))
    assert np.exp(np.float32(MASKED)) == 0.0
