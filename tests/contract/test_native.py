import numpy as np
import pytest
from engine_contract import OnnxEngineContract

from octavo.engines.native import available
from octavo.engines.native.engine import NativeEngine

if not available():
    pytest.skip("the native extension was not built", allow_module_level=True)


@pytest.fixture(params=["int8"])
def subject(request, subjects):
    return subjects(request.param)


@pytest.fixture(params=["int8"])
def precision(request):
    return request.param


class TestNative(OnnxEngineContract):
    backend = "native"

    def build(self, subject):
        return NativeEngine(subject.graph, threads=2)


def test_threads_change_no_bit(subject, make_batch):
    one, three = (NativeEngine(subject.graph, threads=threads) for threads in (1, 3))
    for lengths in ([1], [7], [100], [3, 1, 17, 40, 2, 9], [4] * 65, [512, 1]):
        batch = make_batch(lengths)
        assert np.array_equal(one.run(batch), three.run(batch))
