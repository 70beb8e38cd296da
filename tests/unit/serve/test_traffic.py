import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.serve.traffic import WINDOW_S, LastMinute


class _Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


@given(st.lists(st.floats(1e-5, 50), min_size=1, max_size=300), st.sampled_from([("p50_ms", 0.5), ("p99_ms", 0.99)]))
def test_quantiles_are_right_to_5_percent(make_reply_of, seconds, quantile):
    name, share = quantile
    minute = LastMinute()
    for one in seconds:
        minute.answered(make_reply_of("1"), one)
    true = 1000 * np.quantile(seconds, share, method="inverted_cdf")
    assert getattr(minute.traffic()["intents", "1"], name) == pytest.approx(true, rel=0.05)


@pytest.fixture(scope="session")
def make_reply_of():
    """Replies that tests with many examples can share."""
    from octavo.serve.service import Reply, Timing
    from octavo.types import Outputs

    def make(version):
        return Reply("intents", version, [], Outputs.one_each(np.zeros((1, 3), np.float32)), 7, Timing(0, 0, 0))

    return make


def test_a_version_is_counted_for_a_minute(clock, make_reply):
    minute = LastMinute(clock)
    for _ in range(3 * WINDOW_S):
        minute.answered(make_reply("1"), 0.004)
        clock.now += 0.5
    traffic = minute.traffic()["intents", "1"]
    assert traffic.requests_per_s == pytest.approx(2, rel=0.05)
    clock.now += WINDOW_S
    traffic = minute.traffic()["intents", "1"]
    assert (traffic.requests, traffic.requests_per_s, traffic.p50_ms, traffic.p99_ms) == (0, 0, None, None)


def test_a_rate_counts_from_the_first_request(clock, make_reply):
    minute = LastMinute(clock)
    for _ in range(40):
        minute.answered(make_reply("1"), 0.004)
        clock.now += 0.1
    assert minute.traffic()["intents", "1"].requests_per_s == pytest.approx(10)


def test_versions_and_refusals_are_counted_apart(clock, make_reply):
    minute = LastMinute(clock)
    minute.answered(make_reply("1"), 0.004)
    minute.answered(make_reply("2"), 0.008)
    minute.answered(make_reply("2"), 0.008)
    for reason in ("overloaded", "deadline", "overloaded"):
        minute.refused("intents", reason)
        clock.now += 1
    minute.refused("", "unknown_model")
    assert {key: one.requests for key, one in minute.traffic().items()} == {("intents", "1"): 1, ("intents", "2"): 2}
    assert minute.refusals() == {"intents": {"overloaded": 2, "deadline": 1}, "": {"unknown_model": 1}}
    clock.now += WINDOW_S
    assert minute.refusals() == {"intents": {}, "": {}}


def test_a_thousand_versions_are_not_kept(clock, make_reply):
    minute = LastMinute(clock)
    versions = [str(version) for version in range(1000)]
    random.Random(0).shuffle(versions)
    for version in versions:
        minute.answered(make_reply(version), 0.004)
    assert [version for _, version in minute.traffic()] == versions[-64:]
