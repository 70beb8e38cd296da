"""The search for the highest rate: it ends, and it is right to within its step."""

from hypothesis import given
from hypothesis import strategies as st

from bench.service.rate import highest_rate


@given(st.floats(1.0, 1e5), st.floats(0.01, 9.0))
def test_the_highest_rate_that_is_kept_is_found(limit, times):
    asked, first = [], times * limit

    def keeps(rate):
        asked.append(rate)
        return rate <= limit

    found = highest_rate(keeps, first)
    assert found <= limit <= 1.1 * found
    assert len(asked) < 40


def test_a_server_that_keeps_no_rate_has_none():
    asked = []
    assert highest_rate(lambda rate: asked.append(rate) is not None, 80.0) == 0.0
    assert len(asked) < 10


def test_a_good_guess_takes_few_steps():
    asked = []
    highest_rate(lambda rate: asked.append(rate) or rate <= 70.0, 100.0)
    assert len(asked) <= 6
