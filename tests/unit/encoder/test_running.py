import numpy as np
import pytest
import torch

from octavo.encoder.running import INPUTS_PER_CALL, run, run_all, run_to_file
from octavo.text.layout import NO_OFFSET

HEADS = ["classify", "pairs", "words", "mean", "last", "first"]


class Watched(torch.nn.Module):
    """Answers each read token with its sequence's length and itself; notes the lengths of each call."""

    width = 2

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, input_ids, position_ids, slots, mask, rows, read):
        lengths = (mask == 0).sum(1)
        self.calls.append(lengths.tolist())
        of_token = lengths[rows // mask.shape[1]]
        return torch.stack([of_token[read], input_ids[read]], dim=1)


class Interrupting:
    """Presses Ctrl-C once so many inputs were done."""

    def __init__(self, after):
        self.after, self.seen = after, 0

    def __call__(self, inputs):
        self.seen += inputs
        if self.seen >= self.after:
            raise KeyboardInterrupt


def random_lengths(count):
    return np.random.default_rng(0).integers(1, 40, count)


@pytest.mark.parametrize("head", ["classify", "words", "last"])
def test_outputs_come_back_in_their_order_and_inputs_run_with_their_like(make_batch, head):
    lengths = random_lengths(2 * INPUTS_PER_CALL + 7)
    batch = make_batch(lengths, head=head)
    model, done = Watched(), []
    got = run_all(model, batch, NO_OFFSET, done.append)
    assert got.values.dtype == np.float32
    assert len(got) == len(batch)
    assert got.offsets.tolist() == batch.read_offsets.tolist()
    assert got.values[:, 0].tolist() == np.repeat(lengths, np.diff(batch.read_offsets)).tolist()
    assert got.values[:, 1].tolist() == batch.ids[batch.read_places].tolist()
    assert [length for call in model.calls for length in call] == sorted(lengths, reverse=True)
    assert done == [len(call) for call in model.calls] == [INPUTS_PER_CALL, INPUTS_PER_CALL, 7]


@pytest.mark.parametrize(("head", "width"), [("classify", 5), ("first", 32)])
def test_no_inputs(make_model, make_batch, head, width):
    model = make_model(head=head)
    assert run(model, make_batch([]), NO_OFFSET).shape == (0, width)
    outputs = run_all(model, make_batch([]), NO_OFFSET)
    assert len(outputs) == 0
    assert outputs.values.shape == (0, width)


@pytest.mark.parametrize("head", HEADS)
def test_all_at_once_equals_one_by_one(make_model, make_batch, head):
    model = make_model("bert" if head == "pairs" else "roberta", head)
    positions = model.config.positions
    batch = make_batch([3, 20, 1, 7], head=head)
    together = run_all(model, batch, positions)
    for row in range(4):
        np.testing.assert_allclose(together[row], run(model, batch.select([row]), positions), atol=1e-5)


class TestToFile:
    @pytest.fixture
    def chunk(self, monkeypatch):
        """Sixteen inputs a chunk."""
        monkeypatch.setattr("octavo.encoder.running.INPUTS_PER_CALL", 1)
        return 16

    @pytest.mark.parametrize("head", ["classify", "words"])
    def test_equals_run_all(self, make_model, make_batch, tmp_path, head):
        model = make_model(head=head)
        batch = make_batch(random_lengths(40), head=head)
        kept = run_to_file(model, batch, NO_OFFSET, tmp_path / "outputs", lambda _inputs: None)
        expected = run_all(model, batch, NO_OFFSET)
        np.testing.assert_allclose(kept.values, expected.values, atol=1e-5)
        assert kept.offsets.tolist() == expected.offsets.tolist()

    @pytest.mark.parametrize("after", [1, 17, 39])
    def test_an_interrupted_run_goes_on_where_it_stopped(self, make_batch, tmp_path, chunk, after):
        batch = make_batch(random_lengths(40), head="words")
        whole = run_to_file(Watched(), batch, NO_OFFSET, tmp_path / "whole", lambda _inputs: None)
        with pytest.raises(KeyboardInterrupt):
            run_to_file(Watched(), batch, NO_OFFSET, tmp_path / "outputs", Interrupting(after))
        model, done = Watched(), []
        resumed = run_to_file(model, batch, NO_OFFSET, tmp_path / "outputs", done.append)
        before = -(-after // chunk) * chunk
        assert done[0] == min(before, 40)
        assert sum(done) == 40
        assert sum(map(len, model.calls)) == 40 - done[0]  # nothing is done twice
        assert np.array_equal(resumed.values, whole.values)

    def test_no_inputs(self, make_batch, tmp_path):
        kept = run_to_file(Watched(), make_batch([]), NO_OFFSET, tmp_path / "outputs", lambda _inputs: None)
        assert len(kept) == 0
