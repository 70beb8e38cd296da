from types import SimpleNamespace

import numpy as np
import pytest

from bench.engines.cell import least_cosine
from bench.engines.models import int8_gop
from bench.engines.peers import PEERS, Threads, padded, padded_shape
from bench.engines.summary import OPENVINO_PACKED, OPENVINO_PADDED, OURS
from octavo.text.batch import TokenBatch


def test_padding_puts_zeros_behind_each_sequence():
    batch = TokenBatch.from_sequences([[7, 8, 9], [5]])
    inputs = padded(batch)
    assert inputs["input_ids"].tolist() == [[7, 8, 9], [5, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded_shape(batch) == inputs["input_ids"].shape


def test_the_summary_knows_its_contenders():
    assert {*OURS, *OPENVINO_PADDED, *OPENVINO_PACKED, "torch-fp32", "ctranslate2-int8"} <= set(PEERS)


def test_lanes_share_threads():
    assert Threads(2, 3).total == 6


def test_useful_operations_leave_out_what_the_last_layer_need_not_do():
    one_layer = SimpleNamespace(layers=1, hidden_size=4, intermediate_size=16)
    two_layers = SimpleNamespace(layers=2, hidden_size=4, intermediate_size=16)
    lengths = np.array([3, 5])
    # K and V of 8 tokens, then Q, attention output and both feed-forward layers of 2.
    last = 2 * (8 * 2 * 16 + 2 * (2 * 16 + 2 * 64))
    assert int8_gop(one_layer, lengths) == pytest.approx(last / 1e9)
    assert int8_gop(two_layers, lengths) == pytest.approx((last + 2 * 8 * (4 * 16 + 2 * 64)) / 1e9)


def test_the_cosine_is_that_of_the_worst_row_and_ignores_padding():
    reference = np.array([[1, 0], [0, 2]], np.float32)
    outputs = np.array([[3, 0], [1, 1], [-9, 9]], np.float32)
    assert least_cosine(outputs, reference) == pytest.approx(2**-0.5)
    assert not least_cosine(np.full((2, 2), np.nan, np.float32), reference) >= 0.9
