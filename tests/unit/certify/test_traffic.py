import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.certify.traffic import (
    Call,
    Queries,
    ServiceTime,
    core_hours,
    cores_needed,
    fitted,
    poisson,
    rescaled,
    seconds_per_query,
    share_saved,
    simulate,
    timed_calls,
)
from octavo.errors import InputError


def queries(times_s, tokens=10):
    times_s = np.array(times_s, np.float64)
    return Queries(times_s, [["text"]] * len(times_s), np.full(len(times_s), tokens, np.int64))


class Clock:
    """A clock that only runners move: each takes so many seconds per sequence."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def runner(self, fixed_s, per_sequence_s):
        def run(inputs):
            self.now_ns += round(1e9 * (fixed_s + per_sequence_s * len(inputs)))

        return run


def test_every_runner_answers_the_same_calls_in_turns():
    clock = Clock()
    runners = {"engine": clock.runner(0.001, 0.001), "fp32": clock.runner(0.002, 0.004)}
    calls = timed_calls(runners, queries(np.arange(50)), budget_s=1e9, rounds=4, clock=clock)
    ours, theirs = calls["engine"], calls["fp32"]
    assert [(c.round, c.queries, c.tokens) for c in ours] == [(c.round, c.queries, c.tokens) for c in theirs]
    assert {c.queries for c in ours} == {1, 2, 4, 8, 16, 32}
    assert seconds_per_query(ours, 1) == pytest.approx([0.002] * 4)
    assert seconds_per_query(theirs, 32) == pytest.approx([0.004 + 0.002 / 32] * 4)
    assert share_saved(theirs, ours, 1).value == pytest.approx(1 - 2 / 6)


def test_no_round_is_begun_that_overruns_the_budget():
    clock = Clock()
    calls = timed_calls({"a": clock.runner(1.0, 0.0)}, queries(np.arange(9)), budget_s=60, rounds=50, clock=clock)
    assert len({call.round for call in calls["a"]}) == 3, "three rounds whatever the budget"
    with pytest.raises(InputError, match="nothing to measure"):
        timed_calls({}, queries([0, 1]), budget_s=1)


@given(st.floats(0, 1e-2), st.floats(0, 1e-3), st.floats(1e-6, 1e-4), st.integers(0, 99))
def test_a_service_time_is_found_again(fixed_s, per_sequence_s, per_token_s, seed):
    rng = np.random.default_rng(seed)
    truth = ServiceTime(fixed_s, per_sequence_s, per_token_s, 0.0)
    calls = []
    for number in range(60):
        sequences = int(rng.integers(1, 33))
        tokens = int(rng.integers(3, 30, sequences).sum())
        calls.append(Call(number, sequences, sequences, tokens, truth.of(sequences, tokens)))
    found = fitted(calls)
    assert found.error < 1e-6
    assert found.of(8, 100) == pytest.approx(truth.of(8, 100), rel=1e-4)


def test_no_part_of_a_service_time_is_negative():
    calls = [Call(0, 1, 1, tokens, 1e-3 * (20 - tokens)) for tokens in range(1, 19)]
    found = fitted(calls)
    assert min(found.fixed_s, found.per_sequence_s, found.per_token_s) >= 0
    with pytest.raises(InputError, match="there are none"):
        fitted([])


def test_a_queue_by_hand():
    service = ServiceTime(1.0, 0.0, 0.0, 0.0)
    # 0 runs alone; 0.5 and 0.6 wait for it and go together; 5 finds the core idle.
    found = simulate(queries([0, 0.5, 0.6, 5]), service, 1, 1000)
    assert found.p50_s == pytest.approx(np.median([1, 1.5, 1.4, 1]))
    assert found.busy_s == pytest.approx(3 / 4)
    assert found.utilisation == pytest.approx(3 / 6)
    # With room for one query's tokens, they go one after the other.
    assert simulate(queries([0, 0.5, 0.6, 5]), service, 1, 10).busy_s == 1.0
    assert simulate(queries([0, 0.5, 0.6, 5]), service, 3, 10).p99_s == pytest.approx(1.0)


@settings(max_examples=40)
@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 60), st.floats(1, 400))
def test_queues_lose_nothing_and_answer_no_sooner_than_alone(seed, cores, budget, qps):
    service = ServiceTime(0.001, 0.0005, 0.0001, 0.0)
    some = queries(poisson(200, qps, seed), tokens=7)
    found = simulate(some, service, cores, budget)
    assert found.p50_s >= service.of(1, 7) - 1e-12
    assert found.p99_s >= found.p50_s
    assert 0 < found.utilisation <= 1 + 1e-9
    assert found.busy_s <= service.of(1, 7) + 1e-12
    assert simulate(some, service, cores + 5, 1).p99_s <= simulate(some, service, cores, 1).p99_s + 1e-9


def test_the_fewest_cores_that_keep_the_bound():
    service, some = ServiceTime(0.0, 0.01, 0.0, 0.0), queries(poisson(3000, 500))
    found = cores_needed(some, service, 0.03, 10)
    assert found.p99_s <= 0.03
    assert found.utilisation <= 0.9
    assert found.cores >= 6, "five cores would be busy all the time"
    fewer = simulate(some, service, found.cores - 1, 10)
    assert fewer.p99_s > 0.03 or fewer.utilisation > 0.9
    assert cores_needed(some, service, 0.009, 10) is None, "a query alone takes longer"
    assert cores_needed(queries([0, 100.0]), service, 0.03, 10).cores == 1


def test_units_and_rates():
    assert core_hours(0.0036) == pytest.approx(100)
    times_s = np.array([0.0, 1.0, 4.0])
    assert rescaled(times_s, 5.0).tolist() == pytest.approx([0.0, 0.1, 0.4])
    assert queries(poisson(5000, 20)).qps == pytest.approx(20, rel=0.1)
