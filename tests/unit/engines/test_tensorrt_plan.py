import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engines.tensorrt_plan import (
    MOST_SEQUENCES,
    MOST_TOKENS,
    profiles_from_shapes,
    reads_in,
    tensorrt_package,
)
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.buckets import shape_of


@st.composite
def batches(draw):
    """A longest length, and a batch that is within it and within one call."""
    longest = draw(st.integers(1, 512))
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=MOST_SEQUENCES))
    while sum(lengths) > MOST_TOKENS:
        lengths.pop()
    return longest, TokenBatch.from_sequences([[0] * length for length in lengths])


@given(batches(), st.integers(1, 8))
def test_some_profile_holds_every_batch(given_, count):
    longest, batch = given_
    profiles = profiles_from_shapes([], longest, count)
    assert profiles[-1].holds(shape_of(batch))
    assert any(profile.holds(shape_of(batch)) for profile in profiles)
    if len(batch) == 1:
        assert profiles[0].holds(shape_of(batch))


@given(st.lists(batches(), max_size=4), st.integers(1, 512), st.integers(1, 8))
def test_profiles_are_in_order(traffic, longest, count):
    profiles = profiles_from_shapes([shape_of(batch) for _, batch in traffic], longest, count)
    assert len(profiles) == count
    for profile in profiles:
        triples = zip(profile.least, profile.usual, profile.most, strict=True)
        assert all(low <= usual <= most for low, usual, most in triples)
        assert reads_in(profile.least) <= reads_in(profile.usual) <= reads_in(profile.most)


def test_the_commonest_shape_that_a_profile_holds_is_its_usual_one():
    alone, batched = profiles_from_shapes([(96, 8, 16), (224, 32, 16), (12, 1, 12), (16, 1, 16)], 128, 2)
    assert alone.usual == (12, 1, 12)
    assert batched.usual == (96, 8, 16)
    assert profiles_from_shapes([], 128, 1)[0].usual == (1024, 64, 16)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match=r"'tensorrt-rtx'.*pip install 'octavo\[tensorrt-rtx\]'"):
        tensorrt_package("tensorrt_rtx")


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "12.0.0"])
def test_a_version_that_is_not_known_is_refused(monkeypatch, version):
    package = ModuleType("tensorrt")
    package.__version__ = version
    monkeypatch.setitem(sys.modules, "tensorrt", package)
    with pytest.raises(EngineError, match="knows versions 10 and 11"):
        tensorrt_package()
