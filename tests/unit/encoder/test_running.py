import numpy as np
import torch

from octavo.encoder.running import ROWS_PER_CALL, run, run_all


class Watched(torch.nn.Module):
    """Answers each sequence with its length and its first token; notes the lengths of each call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, input_ids, position_ids, slots, mask, rows, first):
        lengths = (mask == 0).sum(1)
        self.calls.append(lengths.tolist())
        return torch.stack([lengths, input_ids[first]], dim=1)


def test_rows_come_back_in_their_order_and_run_with_their_like(make_batch):
    lengths = np.random.default_rng(0).integers(1, 40, 2 * ROWS_PER_CALL + 7)
    batch = make_batch(lengths)
    model, done = Watched(), []
    got = run_all(model, batch, 0, done.append)
    assert got.dtype == np.float32
    assert got[:, 0].tolist() == lengths.tolist()
    assert got[:, 1].tolist() == batch.ids[batch.offsets[:-1]].tolist()
    assert [length for call in model.calls for length in call] == sorted(lengths, reverse=True)
    assert done == [len(call) for call in model.calls] == [ROWS_PER_CALL, ROWS_PER_CALL, 7]


def test_no_rows(make_classifier, make_batch):
    model = make_classifier()
    assert run(model, make_batch([]), 0).shape == (0, 5)
    assert run_all(model, make_batch([]), 0).shape == (0, 5)


def test_all_at_once_equals_one_by_one(make_classifier, make_batch):
    model = make_classifier("roberta")
    batch = make_batch([3, 20, 1, 7])
    alone = [run(model, batch.select([row]), 2)[0] for row in range(4)]
    np.testing.assert_allclose(run_all(model, batch, 2), alone, atol=1e-5)
