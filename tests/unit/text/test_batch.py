import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.text.batch import TokenBatch

sequences = st.lists(st.lists(st.integers(0, 300_000), min_size=1, max_size=12), max_size=10)


def unpacked(batch: TokenBatch) -> list[list[int]]:
    return [batch.ids[a:b].tolist() for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)]


@given(sequences)
def test_packing_round_trips(rows):
    batch = TokenBatch.from_sequences(rows)
    assert unpacked(batch) == rows
    assert len(batch) == len(rows)
    assert batch.tokens == sum(map(len, rows))
    assert batch.lengths.tolist() == [len(row) for row in rows]
    assert batch.max_length == max(map(len, rows), default=0)
    assert batch.ids.dtype == batch.offsets.dtype == np.int64


@given(sequences, st.data())
def test_select_is_indexing_a_list(rows, data):
    batch = TokenBatch.from_sequences(rows)
    picks = st.lists(st.integers(0, len(rows) - 1), max_size=15) if rows else st.just([])
    chosen = data.draw(picks)  # repeated and reordered too
    assert unpacked(batch.select(chosen)) == [rows[i] for i in chosen]
    assert unpacked(batch.select(np.array(chosen, np.int64))) == [rows[i] for i in chosen]


@given(sequences, st.integers(1, 12))
def test_split_is_cutting_a_list(rows, size):
    parts = [unpacked(part) for part in TokenBatch.from_sequences(rows).split(size)]
    assert parts == [rows[start : start + size] for start in range(0, len(rows), size)]


def test_an_empty_sequence_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        TokenBatch.from_sequences([[1, 2], []])


def test_a_row_that_does_not_exist_is_refused():
    with pytest.raises(IndexError):
        TokenBatch.from_sequences([[1], [2]]).select([2])
