import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.text.batch import TokenBatch

sequences = st.lists(st.lists(st.integers(0, 300_000), min_size=1, max_size=12), max_size=10)


# A sequence, of which text of a pair each of its tokens is, and the places in it that a head reads.
parts = st.lists(
    st.lists(st.integers(0, 300_000), min_size=1, max_size=9).flatmap(
        lambda ids: st.tuples(
            st.just(ids),
            st.lists(st.integers(0, 1), min_size=len(ids), max_size=len(ids)),
            st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=12).map(sorted),
        )
    ),
    max_size=8,
)


def unpacked(batch: TokenBatch) -> list[list[int]]:
    return [batch.ids[a:b].tolist() for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)]


def whole(rows: list[tuple[list[int], list[int], list[int]]]) -> TokenBatch:
    return TokenBatch.from_sequences(*([row[part] for row in rows] for part in range(3)))


def taken_apart(batch: TokenBatch) -> list[tuple[list[int], list[int], list[int]]]:
    rows = []
    for row in range(len(batch)):
        tokens = slice(batch.offsets[row], batch.offsets[row + 1])
        reads = batch.read_places[batch.read_offsets[row] : batch.read_offsets[row + 1]]
        rows.append((batch.ids[tokens].tolist(), batch.segments[tokens].tolist(), (reads - tokens.start).tolist()))
    return rows


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


@given(parts)
def test_segments_and_reads_round_trip(rows):
    batch = whole(rows)
    assert taken_apart(batch) == rows
    assert batch.segments.dtype == batch.reads.dtype == batch.read_offsets.dtype == np.int64


@given(parts, st.data())
def test_select_keeps_segments_and_reads(rows, data):
    picks = st.lists(st.integers(0, len(rows) - 1), max_size=12) if rows else st.just([])
    chosen = data.draw(picks)
    assert taken_apart(whole(rows).select(chosen)) == [rows[i] for i in chosen]


@given(parts, st.integers(1, 5))
def test_split_keeps_segments_and_reads(rows, size):
    assert [row for part in whole(rows).split(size) for row in taken_apart(part)] == rows


@given(sequences)
def test_without_reads_the_first_token_of_each_sequence_is_read(rows):
    batch = TokenBatch.from_sequences(rows)
    assert batch.ids[batch.read_places].tolist() == [row[0] for row in rows]
    assert batch.read_offsets.tolist() == list(range(len(rows) + 1))
    assert batch.segments is batch.reads is None


def test_rows_of_narrow_integers_on_disk_are_selected_as_int64(tmp_path):
    rows = [([5, 6, 7], [0, 0, 1], [0, 2]), ([8], [0], [0, 0]), ([9, 10], [0, 1], [1])]
    stored = whole(rows)
    arrays = {"ids": np.int32, "offsets": np.int64, "segments": np.int8, "reads": np.int64}
    for name, dtype in arrays.items():
        getattr(stored, name).astype(dtype).tofile(tmp_path / name)
    batch = TokenBatch(**{name: np.memmap(tmp_path / name, dtype, "r") for name, dtype in arrays.items()})
    chosen = batch.select([2, 0])
    assert taken_apart(chosen) == [rows[2], rows[0]]
    for name in arrays:
        assert getattr(chosen, name).dtype == np.int64
        assert type(getattr(chosen, name)) is np.ndarray


def test_a_sequence_with_nothing_to_read_is_refused():
    with pytest.raises(ValueError, match="one to read"):
        TokenBatch.from_sequences([[1], [2]], reads=[[0], []])


def test_an_empty_sequence_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        TokenBatch.from_sequences([[1, 2], []])


def test_a_row_that_does_not_exist_is_refused():
    with pytest.raises(IndexError):
        TokenBatch.from_sequences([[1], [2]]).select([2])
