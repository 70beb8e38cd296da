import copy

import pytest
import torch

from octavo.quantize.placement import QuantizedLinear, amax_by_layer, calibrate, linears, quantize
from octavo.quantize.smoothing import SMOOTHED, searched_factors, smoothing_factors
from octavo.types import Observer, Scheme

OUTLIER, PEAK = 3, 40.0


@pytest.fixture
def spiky(make_classifier):
    """A model whose LayerNorms let one channel peak far above the others, as trained encoders do."""
    model = make_classifier()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter[OUTLIER] = PEAK
    return model


@pytest.fixture
def batches(make_batch, inputs_of):
    return [inputs_of(make_batch([3, 9, 17, 6, 30, 12], seed)) for seed in range(4)]


def test_factors_are_for_what_comes_out_of_a_layer_norm(spiky, batches):
    factors = smoothing_factors(spiky, batches, 0.5)
    assert {name.rpartition(".")[2] for name in factors} == set(SMOOTHED)
    assert len(factors) == 2 * len(spiky.encoder.layers)
    for name, factor in factors.items():
        assert factor.shape == (linears(spiky)[name].in_features,)
        assert (factor > 0).all()
        assert int(factor.argmax()) == OUTLIER


def test_the_product_is_unchanged(spiky, batches):
    factors = smoothing_factors(spiky, batches, 0.5)
    for name, factor in factors.items():
        linear = linears(spiky)[name]
        x = torch.randn(5, linear.in_features, generator=torch.Generator().manual_seed(0))
        smoothed = (x / factor) @ (linear.weight * factor).T + linear.bias
        torch.testing.assert_close(smoothed, linear(x), rtol=1e-4, atol=1e-4)


def test_smoothing_narrows_the_quantized_range_and_brings_the_model_closer(spiky, batches):
    def error(strength):
        factors = smoothing_factors(spiky, batches, strength) if strength else {}
        amax = amax_by_layer(calibrate(spiky, batches, factors), Observer.MAX)
        model = copy.deepcopy(spiky)
        quantize(model, amax, factors)
        for name, layer in linears(model).items():
            assert isinstance(layer, QuantizedLinear)
            assert (layer.smoothing is not None) == (name in factors)
        with torch.no_grad():
            return float(sum((model(*batch) - spiky(*batch)).abs().mean() for batch in batches))

    assert error(0.5) < 0.7 * error(0)


def test_calibration_sees_the_smoothed_input(spiky, batches):
    factors = smoothing_factors(spiky, batches, 0.5)
    plain, smoothed = calibrate(spiky, batches), calibrate(spiky, batches, factors)
    for name in linears(spiky):
        if name in factors:
            assert smoothed[name].amax != plain[name].amax
        else:
            assert smoothed[name].amax == plain[name].amax


def test_a_channel_that_is_always_zero_keeps_a_finite_factor(make_classifier, batches):
    model = make_classifier()
    with torch.no_grad():
        model.encoder.embeddings.norm.weight[0] = 0
        model.encoder.embeddings.norm.bias[0] = 0
        model.encoder.layers[0].qkv.weight[:, 1] = 0
    factors = smoothing_factors(model, batches, 0.5)
    assert all(torch.isfinite(factor).all() and (factor > 0).all() for factor in factors.values())


def _quantized(model, batches, factors, scheme=Scheme.PER_TENSOR):
    copied = copy.deepcopy(model)
    is_static = scheme is Scheme.PER_TENSOR
    amax = amax_by_layer(calibrate(model, batches, factors), Observer.MAX) if is_static else None
    quantize(copied, amax, factors)
    return copied


def _error(model, batches, factors, scheme=Scheme.PER_TENSOR):
    quantized = _quantized(model, batches, factors, scheme)
    with torch.no_grad():
        return float(sum((quantized(*batch) - model(*batch)).abs().mean() for batch in batches))


def test_searched_factors_keep_the_product_and_beat_one_strength_for_all(spiky, batches):
    searched = searched_factors(spiky, batches)
    for name, factor in searched.items():
        linear = linears(spiky)[name]
        assert factor.shape == (linear.in_features,)
        x = torch.randn(5, linear.in_features, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            (x / factor) @ (linear.weight * factor).T + linear.bias, linear(x), rtol=1e-3, atol=1e-3
        )
    assert _error(spiky, batches, searched) < _error(spiky, batches, smoothing_factors(spiky, batches, 0.5))


def test_the_search_is_for_the_scheme_that_is_asked_for(spiky, batches):
    """What is best for one scale a tensor is not for one a token, which outliers of other tokens leave alone."""
    plain, per_token = searched_factors(spiky, batches), searched_factors(spiky, batches, Scheme.PER_TOKEN)
    assert plain.keys() != per_token.keys() or any(not torch.equal(plain[name], per_token[name]) for name in plain)
    assert _error(spiky, batches, per_token, Scheme.PER_TOKEN) < _error(spiky, batches, {}, Scheme.PER_TOKEN)


def test_the_search_is_the_same_every_time(spiky, batches):
    one, other = searched_factors(spiky, batches), searched_factors(spiky, batches)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
