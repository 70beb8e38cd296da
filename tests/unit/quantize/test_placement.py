import pytest
import torch
from torch import nn

from octavo.quantize.fake_quantize import fake_quantize, fake_quantize_weight, scale_from_amax
from octavo.quantize.placement import (
    QuantizedLinear,
    amax_by_layer,
    calibrate,
    linears,
    quantize,
    set_amax,
)
from octavo.types import Observer

NAMES = [f"encoder.layers.{i}.{x}" for i in range(2) for x in ("qkv", "attention_output", "ffn1", "ffn2")]


@pytest.fixture
def model(make_classifier):
    return make_classifier()


@pytest.fixture(scope="module")
def batches(make_batch, inputs_of):
    return [inputs_of(make_batch([3, 9, 17, 1], seed)) for seed in range(3)]


def outputs(model, batches):
    with torch.no_grad():
        return torch.cat([model(*batch) for batch in batches])


def test_the_linears_of_the_layers_and_no_others(model):
    assert list(linears(model)) == NAMES


class TestCalibrate:
    def test_sees_what_enters_each_linear(self, model, batches):
        histograms = calibrate(model, batches)
        assert list(histograms) == NAMES
        with torch.no_grad():
            embedded = [model.encoder.embeddings(ids, positions) for ids, positions, *_ in batches]
        assert histograms[NAMES[0]].amax == max(float(x.abs().max()) for x in embedded)
        assert histograms[NAMES[0]].counts.sum() == sum(x.numel() for x in embedded)
        # In the last layer only first tokens reach the feed-forward: 4 sequences in each of 3 batches.
        assert histograms["encoder.layers.1.ffn2"].counts.sum() == 3 * 4 * 48

    @pytest.mark.parametrize("head", ["words", "mean"])
    def test_sees_every_token_of_the_last_layer_where_the_head_may_read_it(
        self, make_model, make_batch, inputs_of, head
    ):
        batch = make_batch([3, 9, 17, 1], head=head)
        histograms = calibrate(make_model(head=head), [inputs_of(batch)])
        assert histograms["encoder.layers.1.ffn2"].counts.sum() == batch.tokens * 48
        assert histograms["encoder.layers.1.qkv"].counts.sum() == batch.tokens * 32

    def test_leaves_the_model_as_it_was(self, model, batches):
        before = outputs(model, batches)
        calibrate(model, batches)
        assert torch.equal(outputs(model, batches), before)
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_lets_go_of_the_model_when_interrupted(self, model, batches):
        def interrupted():
            yield batches[0]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            calibrate(model, interrupted())
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_does_not_depend_on_the_order_of_the_batches(self, model, batches):
        for observer in Observer:
            one = amax_by_layer(calibrate(model, batches), observer)
            assert one == amax_by_layer(calibrate(model, batches[::-1]), observer)
            assert list(one) == NAMES


class TestQuantize:
    @pytest.fixture
    def amax(self, model, batches):
        return amax_by_layer(calibrate(model, batches), Observer.MAX)

    def test_replaces_the_linears_and_nothing_else(self, model, amax):
        before = {name: type(module) for name, module in model.named_modules()}
        quantize(model, amax)
        after = {name: type(module) for name, module in model.named_modules()}
        changed = {name for name, kind in after.items() if before.get(name) is not kind}
        assert changed == set(NAMES) | {f"{name}.input_quantizer" for name in NAMES}
        assert all(after[name] is QuantizedLinear for name in NAMES)
        assert type(model.head.dense) is type(model.head.output) is nn.Linear
        assert type(model.encoder.embeddings.words) is nn.Embedding

    def test_shares_the_weights(self, model, amax):
        before = dict(model.named_parameters())
        quantize(model, amax)
        after = dict(model.named_parameters())
        assert all(after[name] is parameter for name, parameter in before.items())
        assert set(after) - set(before) == {f"{name}.input_quantizer.log_scale" for name in NAMES}

    def test_each_layer_gets_its_own_amax(self, model, amax):
        quantize(model, amax)
        for name, linear in linears(model).items():
            assert linear.input_quantizer.scale.item() == pytest.approx(amax[name] / 127, rel=1e-6)

    def test_answers_are_near_and_not_equal(self, model, amax, batches):
        before = outputs(model, batches)
        quantize(model, amax)
        after = outputs(model, batches)
        assert 0 < (after - before).abs().max() < 0.3 * before.std()

    def test_a_linear_is_quantized_input_times_quantized_weight(self, model, amax):
        linear = model.encoder.layers[0].ffn1
        x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
        quantize(model, amax)
        scale = torch.tensor(scale_from_amax(amax["encoder.layers.0.ffn1"]))
        with torch.no_grad():
            expected = fake_quantize(x, scale) @ fake_quantize_weight(linear.weight).T + linear.bias
            torch.testing.assert_close(model.encoder.layers[0].ffn1(x), expected, atol=1e-5, rtol=0)

    def test_a_slice_of_the_outputs_is_that_slice(self, model, amax):
        quantize(model, amax)
        qkv = model.encoder.layers[1].qkv
        x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(qkv(x, slice(32, None)), qkv(x)[:, 32:], atol=1e-6, rtol=0)

    def test_everything_learns(self, model, amax, batches):
        quantize(model, amax)
        model(*batches[0]).square().sum().backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == []

    def test_without_amax_each_token_has_its_own_scale(self, model, batches):
        before, parameters = outputs(model, batches), dict(model.named_parameters())
        quantize(model, None)
        assert dict(model.named_parameters()).keys() == parameters.keys()  # nothing to learn but the weights
        assert 0 < (outputs(model, batches) - before).abs().max() < 0.3 * before.std()
        x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
        qkv = model.encoder.layers[1].qkv
        with torch.no_grad():
            together = qkv(x)
            x[1:] *= 1000  # other tokens of the batch
            torch.testing.assert_close(qkv(x)[0], together[0], atol=1e-5, rtol=0)

    def test_a_layer_without_amax_is_an_error(self, model, amax):
        with pytest.raises(KeyError, match="ffn2"):
            quantize(model, {name: value for name, value in amax.items() if "ffn2" not in name})


class TestSetAmax:
    def test_is_quantizing_with_it_from_the_start(self, make_classifier, batches):
        first, second = make_classifier(), make_classifier()
        histograms = calibrate(first, batches)
        wanted = amax_by_layer(histograms, Observer.MSE)
        quantize(first, wanted)
        quantize(second, amax_by_layer(histograms, Observer.MAX))
        assert not torch.equal(outputs(first, batches), outputs(second, batches))
        set_amax(second, wanted)
        assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))

    def test_keeps_the_parameters_that_an_optimizer_holds(self, make_quantized):
        model = make_quantized()
        before = list(model.parameters())
        set_amax(model, dict.fromkeys(NAMES, 3.0))
        assert all(p is q for p, q in zip(before, model.parameters(), strict=True))

    def test_of_a_float_model_is_an_error(self, model):
        with pytest.raises(AssertionError, match="not quantized"):
            set_amax(model, dict.fromkeys(NAMES, 1.0))
