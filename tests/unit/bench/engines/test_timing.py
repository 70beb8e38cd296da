from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.engines.timing import FEWEST_ROUNDS, Turn, interleaved, median_of, ratio_of


class _Clock:
    """Moves only when a job says so."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def spend(self, ms):
        self.now_ns += int(ms * 1e6)


@pytest.fixture
def clock():
    return _Clock()


def test_contenders_take_turns_in_a_rotating_order(clock):
    seen = []

    def turn(name, number):
        return Turn(lambda: None, [partial(seen.append, (number, name))])

    interleaved({name: partial(turn, name) for name in "abc"}, rounds=3, budget_s=1, clock=clock)
    assert seen == [(n, name) for n, order in enumerate(["abc", "bca", "cab"]) for name in order]


def test_only_the_jobs_are_timed(clock):
    def turn(_number):
        clock.spend(1000)
        return Turn(partial(clock.spend, 500), [partial(clock.spend, 2), partial(clock.spend, 3)])

    taken = interleaved({"a": turn}, rounds=2, budget_s=100, clock=clock)
    assert taken.calls_ms == {"a": [[2.0, 3.0], [2.0, 3.0]]}


def test_the_budget_ends_the_rounds_but_three_are_run(clock):
    def turn(_number):
        return Turn(lambda: None, [partial(clock.spend, 1000)])

    assert len(interleaved({"a": turn}, rounds=50, budget_s=0.1, clock=clock).calls_ms["a"]) == FEWEST_ROUNDS
    assert len(interleaved({"a": turn}, rounds=50, budget_s=10, clock=clock).calls_ms["a"]) == 10


def test_a_contender_that_breaks_down_ends_nobody_else(clock):
    def bad(number):
        if number == 1:
            raise RuntimeError("no kernel")
        return Turn(lambda: None, [partial(clock.spend, 1)])

    def good(_number):
        return Turn(lambda: None, [partial(clock.spend, 2)])

    taken = interleaved({"bad": bad, "good": good}, rounds=4, budget_s=100, clock=clock)
    assert taken.calls_ms == {"good": [[2.0]] * 4}
    assert str(taken.failed["bad"]) == "no kernel"


def test_nobody_to_measure(clock):
    assert interleaved({}, rounds=3, budget_s=1, clock=clock).calls_ms == {}


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60))
def test_the_interval_holds_the_median_and_lies_within_the_values(values):
    found = median_of(values)
    assert min(values) <= found.low <= found.value <= found.high <= max(values)
    assert found.value == np.median(values)


def test_more_rounds_make_a_narrower_interval():
    draws = np.random.default_rng(0).lognormal(0, 0.3, 400)
    few, many = median_of(draws[:10]), median_of(draws)
    assert many.high - many.low < few.high - few.low


def test_the_interval_covers_the_true_median():
    rng = np.random.default_rng(1)
    found = [median_of(rng.lognormal(0, 0.5, 25)) for _ in range(200)]
    covered = np.mean([f.low <= 1.0 <= f.high for f in found])
    assert covered > 0.9  # nominally 0.95


def test_a_ratio_is_taken_within_rounds():
    drift = np.array([1.0, 5.0, 2.0, 9.0])  # what slows a round down slows both down
    found = ratio_of(3 * drift, drift)
    assert (found.low, found.value, found.high) == pytest.approx((3, 3, 3))


def test_a_ratio_of_different_rounds_is_refused():
    with pytest.raises(ValueError, match="2 rounds against 1"):
        ratio_of([1.0, 2.0], [1.0])
