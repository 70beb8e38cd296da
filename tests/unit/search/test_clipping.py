import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.search.clipping import clipped


@given(st.text(), st.integers(4, 512), st.sampled_from([0.5, 0.125]))
def test_what_remains_is_a_beginning_that_fits(query, max_length, share):
    made = clipped(query, max_length, share)
    assert query.startswith(made)
    assert len(made) <= 4 * share * max_length
    assert clipped(made, max_length, share) == made
    if len(query) <= share * max_length:
        assert made == query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("list all the containers", "list all the containers"),
        ("word " * 20, "word word word word word word"),  # 32 characters are 8 tokens
        ("a" * 100, "a" * 32),
        ("红色的跑鞋和蓝色的帽子", "红色的跑鞋和蓝色"),
    ],
)
def test_it_ends_with_a_word_where_there_are_some(query, expected):
    assert clipped(query, 16) == expected
