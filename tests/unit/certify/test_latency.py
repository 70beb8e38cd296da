import numpy as np
import pytest

from octavo.certify.latency import BATCH, core_saved, measure, median_interval, speedup, speedup_batch1
from octavo.errors import InputError
from octavo.progress import Silent

TEXTS = [f"query {i}" for i in range(100)]


class FakeClock:
    """Time that passes only while a runner runs."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def runner(self, ms_per_text, overhead_ms=0.0, log=None, name=""):
        def run(texts):
            if log is not None:
                log.append((name, tuple(texts)))
            self.now_ns += round(1e6 * (overhead_ms + ms_per_text * len(texts)))

        return run


class Watcher(Silent):
    def __init__(self):
        self.label, self.total, self.done = "", 0, 0

    def step(self, label, total=None):
        self.label, self.total = label, total
        return super().step(label, total)

    def advance(self, steps=1, note=""):
        self.done += steps


def test_reports_milliseconds_per_query():
    clock = FakeClock()
    summary = measure({"a": clock.runner(0.5, overhead_ms=2)}, TEXTS, rounds=4, clock=clock)["a"]
    assert summary.latency.batch1_p50 == pytest.approx(2.5)
    assert summary.latency.batch1_p99 == pytest.approx(2.5)
    assert summary.latency.per_query_batch32 == pytest.approx(0.5 + 2 / BATCH)
    assert len(summary.rounds_batch32_ms) == len(summary.rounds_batch1_ms) == 4
    assert summary.samples == sum(summary.counts)


def test_core_time_is_counted_beside_the_time_taken():
    clock = FakeClock()
    runners = {"slow": clock.runner(8, overhead_ms=4), "fast": clock.runner(2, overhead_ms=4)}
    # Two threads are at work while a call runs.
    summaries = measure(runners, TEXTS, rounds=6, clock=clock, core_clock=lambda: 2 * clock.now_ns)
    assert summaries["slow"].rounds_core1_ms == pytest.approx([24] * 6)
    assert summaries["slow"].rounds_core32_ms == pytest.approx([2 * (8 + 4 / BATCH)] * 6)
    assert summaries["slow"].latency.batch1_p50 == pytest.approx(12)
    alone, batched = core_saved(summaries["slow"], summaries["fast"])
    assert alone.value == pytest.approx(0.5)
    assert batched.value == pytest.approx(1 - (2 + 4 / BATCH) / (8 + 4 / BATCH))


def test_runners_share_texts_and_rotate():
    clock, log = FakeClock(), []
    runners = {name: clock.runner(1, log=log, name=name) for name in "abc"}
    measure(runners, TEXTS, rounds=3, warm_up_rounds=0, clock=clock)
    calls_per_turn = len(log) // 9
    turns = [log[i : i + calls_per_turn] for i in range(0, len(log), calls_per_turn)]
    assert "".join(turn[0][0] for turn in turns) == "abcbcacab"
    for start in range(0, 9, 3):
        asked = [[texts for _, texts in turn] for turn in turns[start : start + 3]]
        assert asked[0] == asked[1] == asked[2]
    assert turns[0][1:] != turns[3][1:]


def test_warm_up_is_not_counted():
    clock = FakeClock()
    calls = 0

    def slow_at_first(texts):
        nonlocal calls
        calls += 1
        clock.now_ns += 10**9 if calls <= 2 else 10**6

    summary = measure({"a": slow_at_first}, TEXTS, rounds=3, warm_up_rounds=1, clock=clock)["a"]
    assert summary.latency.batch1_p99 == pytest.approx(1.0)


def test_the_budget_ends_it_but_never_before_three_rounds():
    clock = FakeClock()
    generous = measure({"a": clock.runner(1)}, TEXTS, rounds=50, budget_s=1.0, clock=clock)["a"]
    assert 3 < len(generous.rounds_batch32_ms) < 50
    started = clock.now_ns
    hurried = measure({"a": clock.runner(100)}, TEXTS, rounds=50, budget_s=0.1, clock=clock)["a"]
    assert len(hurried.rounds_batch32_ms) == 3
    assert clock.now_ns > started


def test_stays_within_its_budget():
    clock = FakeClock()
    measure({"a": clock.runner(3), "b": clock.runner(1)}, TEXTS, rounds=500, budget_s=5.0, clock=clock)
    assert clock.now_ns <= 5e9


def test_fewer_texts_than_a_batch_are_asked_again():
    clock, log = FakeClock(), []
    measure({"a": clock.runner(1, log=log, name="a")}, ["one", "two"], rounds=1, clock=clock)
    assert max(len(texts) for _, texts in log) == BATCH


def test_histograms_share_their_edges_and_count_every_sample():
    clock = FakeClock()
    summaries = measure({"a": clock.runner(1), "b": clock.runner(30)}, TEXTS, rounds=5, clock=clock)
    a, b = summaries["a"], summaries["b"]
    assert a.edges_ms == b.edges_ms
    assert np.allclose(np.diff(np.log(a.edges_ms)), np.diff(np.log(a.edges_ms))[0])
    assert sum(a.counts) == a.samples
    assert a.counts[0] == a.samples
    assert b.counts[-1] == b.samples


def test_progress_counts_rounds():
    clock, watcher = FakeClock(), Watcher()
    measure({"a": clock.runner(1)}, TEXTS, rounds=7, warm_up_rounds=2, progress=watcher, clock=clock)
    assert (watcher.total, watcher.done) == (9, 9)


def test_progress_is_complete_when_the_time_is_up():
    clock, watcher = FakeClock(), Watcher()
    measure({"a": clock.runner(100)}, TEXTS, rounds=40, budget_s=0.1, progress=watcher, clock=clock)
    assert watcher.done == watcher.total == 42


def test_speedup_is_the_median_ratio_per_round_so_that_a_slow_machine_cancels():
    clock = FakeClock()
    slowness = iter(np.tile([1.0, 9.0, 1.0, 1.0, 30.0], 1000))
    state = {"factor": 1.0, "turns": 0}

    def run(ms):
        def runner(texts):
            if len(texts) == BATCH:
                state["turns"] += 1
            clock.now_ns += round(1e6 * ms * len(texts) * state["factor"])
            if state["turns"] == 2:  # both runners have had their turn of this round
                state.update(turns=0, factor=next(slowness))

        return runner

    summaries = measure({"fast": run(1.0), "slow": run(5.0)}, TEXTS, rounds=20, budget_s=1e9, clock=clock)
    for ratio in (speedup, speedup_batch1):
        result = ratio(summaries["slow"], summaries["fast"])
        assert (result.value, result.low, result.high) == pytest.approx((5.0, 5.0, 5.0))


def test_speedup_refuses_runners_of_different_measurements():
    clock = FakeClock()
    three = measure({"a": clock.runner(1)}, TEXTS, rounds=3, clock=clock)["a"]
    four = measure({"a": clock.runner(1)}, TEXTS, rounds=4, clock=clock)["a"]
    with pytest.raises(InputError):
        speedup(three, four)


def test_median_interval_takes_the_ranks_of_the_sign_test():
    # For n = 20 the 95% interval runs from the 6th to the 15th value.
    assert median_interval(range(1, 21)).low == 6
    assert median_interval(range(1, 21)).high == 15
    assert median_interval(range(1, 21)).value == 10.5


def test_median_interval_of_few_values_is_their_range():
    for values in ([4.0], [1.0, 9.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]):
        interval = median_interval(values)
        assert (interval.low, interval.high) == (min(values), max(values))


@pytest.mark.parametrize(
    ("runners", "texts", "rounds"), [({}, TEXTS, 3), ({"a": print}, [], 3), ({"a": print}, TEXTS, 0)]
)
def test_refuses_to_measure_nothing(runners, texts, rounds):
    with pytest.raises(InputError):
        measure(runners, texts, rounds=rounds)
