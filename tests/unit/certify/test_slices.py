import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.certify.slices import length_bands, slices_by
from octavo.types import Measure


def test_slices_are_sorted_worst_first_and_partition_the_rows():
    labels = ["good"] * 40 + ["bad"] * 20 + ["same"] * 30
    teacher = np.array([0.0] * 40 + [1.0] * 20 + [1.0] * 30)
    engine = np.array([1.0] * 10 + [0.0] * 30 + [0.0] * 5 + [1.0] * 15 + [1.0] * 30)
    ones = np.ones(90)
    slices = slices_by(labels, Measure("accuracy", teacher, ones), Measure("accuracy", engine, ones))
    assert [s.name for s in slices] == ["bad", "same", "good"]
    assert [s.rows for s in slices] == [20, 30, 40]
    assert slices[0].difference.value == pytest.approx(-0.25)
    assert (slices[2].teacher, slices[2].engine) == (0.0, 0.25)


def test_a_slice_of_one_row_has_a_wide_interval():
    right = Measure("accuracy", np.ones(1), np.ones(1))
    (only,) = slices_by(["a"], right, right)
    assert only.difference.high - only.difference.low > 0.5


def test_a_slice_of_a_ratio_has_the_ratio_of_its_own_units():
    teacher = Measure("f1", np.array([2.0, 2.0, 4.0]), np.array([2.0, 6.0, 4.0]))
    long, short = slices_by(["short", "short", "long"], teacher, teacher)
    assert (short.name, short.teacher, short.rows) == ("short", 0.5, 2)
    assert (long.name, long.teacher, long.rows) == ("long", 1.0, 1)


def test_no_names_no_slices():
    nothing = Measure("accuracy", np.zeros(0), np.zeros(0))
    assert slices_by([], nothing, nothing) == []


def test_bands_are_about_quarters_and_say_their_lengths():
    bands = length_bands(list(range(1, 101)))
    assert [bands.count(b) for b in dict.fromkeys(bands)] == pytest.approx([25, 25, 25, 25], abs=1)
    assert bands[0].startswith("1–")
    assert bands[-1].endswith("–100 tokens")


def test_equal_lengths_share_one_band():
    assert length_bands([7, 7, 7]) == ["7 tokens"] * 3
    assert length_bands([1]) == ["1 token"]
    assert length_bands([]) == []


@given(st.lists(st.integers(1, 512), min_size=1, max_size=300))
def test_bands_hold_their_rows_and_never_overlap(lengths):
    bands = length_bands(lengths)
    spans = set()
    for length, band in zip(lengths, bands, strict=True):
        numbers = [int(n) for n in band.split()[0].split("–")]
        assert numbers[0] <= length <= numbers[-1]
        spans.add((numbers[0], numbers[-1]))
    ordered = sorted(spans)
    assert len(ordered) <= 4
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ordered))
