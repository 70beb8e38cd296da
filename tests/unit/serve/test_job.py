"""How parts become one reply, and how its time is told."""

from types import SimpleNamespace

import numpy as np
import pytest

from octavo.serve.job import Job
from octavo.serve.service import Request
from octavo.types import Outputs


def job(inputs=1, **facts):
    request = Request("intents", ["x"] * inputs)
    return Job(request, SimpleNamespace(), ["x"] * inputs, 1, SimpleNamespace(), arrival_s=10.0, **facts)


def outputs(*values):
    return Outputs.one_each(np.array([[value] for value in values], np.float32))


def test_chunks_come_back_in_order_whatever_ended_first():
    made = job(5, chunks=[(3, outputs(3, 4)), (0, outputs(0)), (1, outputs(1, 2))])
    assert made.outputs().values[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_known_outputs_take_their_places():
    made = job(4, chunks=[(1, outputs(3)), (0, outputs(1))], known={0: np.zeros((1, 1)), 2: np.full((2, 1), 2.0)})
    found = made.outputs()
    assert [found[i][:, 0].tolist() for i in range(4)] == [[0], [1], [2, 2], [3]]


@pytest.mark.parametrize(
    ("spans", "queue_ms", "compute_ms"),
    [
        ([(10.5, 10.7)], 400, 200),
        ([(10.5, 10.7), (10.5, 10.8)], 400, 300),  # side by side
        ([(10.5, 10.6), (10.7, 10.8)], 500, 200),  # one after the other
        ([(10.6, 10.9), (10.5, 10.7)], 400, 400),
    ],
)
def test_time_is_waiting_reading_or_computing(spans, queue_ms, compute_ms):
    timing = job(tokenize_s=0.1, spans=spans).timing(now_s=99.0)
    assert timing.queue_ms == pytest.approx(queue_ms)
    assert timing.tokenize_ms == pytest.approx(100)
    assert timing.compute_ms == pytest.approx(compute_ms)


def test_what_was_known_took_no_engine():
    timing = job(tokenize_s=0.1).timing(now_s=10.3)
    assert timing.compute_ms == 0
    assert timing.queue_ms == pytest.approx(200)
