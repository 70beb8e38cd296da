"""What is remembered, for how long, and that only the very same input finds it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octavo.serve.cache import OutputCache, keys_of
from octavo.text.batch import TokenBatch


def row(value):
    return np.full((1, 2), value, np.float32)


def key(name):
    return ("r", name.encode(), b"", b"")


def keys(release, sequences, segments=None, reads=None):
    return keys_of(release, TokenBatch.from_sequences(sequences, segments, reads), 0, len(sequences))


def test_the_least_recently_used_goes_first():
    cache = OutputCache(2)
    cache.put(key("a"), row(1))
    cache.put(key("b"), row(2))
    cache.get([key("a")])
    cache.put(key("c"), row(3))
    assert sorted(cache.get([key("a"), key("b"), key("c")])) == [0, 2]
    assert (cache.lookups, cache.hits, len(cache)) == (4, 3, 2)


def test_what_is_remembered_is_a_copy_that_nobody_can_change():
    cache, values = OutputCache(2), row(1)
    cache.put(key("a"), values)
    values[:] = 9
    found = cache.get([key("a")])[0]
    assert found.tolist() == [[1, 1]]
    assert not found.flags.writeable


def test_only_the_same_input_of_the_same_release_has_the_same_key():
    first, second = keys("r", [[5, 6, 7], [5, 6]])
    assert first != second
    assert keys("r", [[1], [5, 6, 7]])[1] == first, "where it lies in its batch is no matter"
    others = [
        keys("other", [[5, 6, 7]]),
        keys("r", [[5, 6, 8]]),
        keys("r", [[5, 6, 7]], segments=[[0, 0, 1]]),
        keys("r", [[5, 6, 7]], reads=[[0, 2]]),
        keys("r", [[5, 6, 7]], reads=[[0, 1]]),
    ]
    assert len({first, *(one for (one,) in others)}) == 6


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans())), st.integers(1, 5))
def test_never_more_than_its_entries_and_never_another_output(steps, entries):
    cache = OutputCache(entries)
    for number, is_put in steps:
        if is_put:
            cache.put(key(f"{number}"), row(number))
        elif found := cache.get([key(f"{number}")]):
            assert found[0].tolist() == [[number, number]]
        assert len(cache) <= entries
