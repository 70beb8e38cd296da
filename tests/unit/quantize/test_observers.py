import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octavo.errors import ModelError
from octavo.quantize.fake_quantize import fake_quantize, scale_from_amax
from octavo.quantize.observers import BINS, Histogram, amax_from_histogram
from octavo.types import Observer

# Powers of two and zeros lie on the edges of bins: where a histogram goes wrong if it does.
values = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0, -1.0, 1e-30, 3e-6])
data = arrays(np.float32, st.integers(1, 40), elements=values)


def histogram_of(*tensors: torch.Tensor) -> Histogram:
    histogram = Histogram()
    for tensor in tensors:
        histogram.add(tensor)
    return histogram


def normal(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def laplace(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).laplace(size=count)).float()


DISTRIBUTIONS = {
    "normal": normal(50_000),
    "laplace": laplace(50_000),
    "a lone outlier": torch.cat([normal(50_000), torch.tensor([60.0])]),
    "outlier channels": torch.cat([normal(50_000), normal(500) * 20]),
    "one sided": normal(50_000).relu(),
    "uniform": torch.linspace(-3, 3, 50_000),
    "tiny": normal(50_000) * 1e-6,
}


class TestHistogram:
    @given(data, st.data())
    def test_does_not_depend_on_order_or_cutting(self, x, draw):
        whole = histogram_of(torch.from_numpy(x))
        shuffled = np.array(draw.draw(st.permutations(x.tolist())), np.float32)
        cuts = sorted(draw.draw(st.lists(st.integers(0, len(x)), max_size=5)))
        parts = histogram_of(*[torch.from_numpy(part) for part in np.split(shuffled, cuts)])
        assert (parts.limit, parts.amax) == (whole.limit, whole.amax)
        assert np.array_equal(parts.counts, whole.counts)

    @given(data)
    def test_counts_every_value_in_its_bin(self, x):
        histogram = histogram_of(torch.from_numpy(x))
        magnitudes = np.abs(x.astype(np.float64))
        assert histogram.counts.sum() == len(x)
        assert histogram.amax == magnitudes.max()
        if histogram.limit:
            bins = np.floor(magnitudes / histogram.limit * BINS).astype(int)
            assert np.array_equal(histogram.counts, np.bincount(bins, minlength=BINS))

    def test_any_shape_sign_and_float_type(self):
        x = normal(240)
        flat = histogram_of(x.abs())
        assert np.array_equal(histogram_of(x.view(4, 5, 12)).counts, flat.counts)
        assert np.array_equal(histogram_of(x.double().requires_grad_()).counts, flat.counts)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("before", [[], [1.0]])
    def test_nan_and_infinity_are_refused(self, bad, before):
        histogram = histogram_of(torch.tensor(before))
        with pytest.raises(ModelError, match="NaN or infinity"):
            histogram.add(torch.tensor([0.5, bad]))


class TestObservers:
    @pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
    def test_none_exceeds_the_maximum(self, x):
        histogram = histogram_of(x)
        assert amax_from_histogram(histogram, Observer.MAX) == float(x.abs().max())
        for observer in Observer:
            assert 0 < amax_from_histogram(histogram, observer) <= float(x.abs().max())

    @given(data)
    def test_any_data_gives_a_usable_clipping_value(self, x):
        histogram = histogram_of(torch.from_numpy(x))
        for observer in Observer:
            amax = amax_from_histogram(histogram, observer)
            assert 0 <= amax <= np.abs(x).max()
            assert (amax == 0) == (not x.any())

    @pytest.mark.parametrize("observer", [Observer.PERCENTILE, Observer.ENTROPY])
    def test_a_lone_outlier_is_clipped(self, observer):
        amax = amax_from_histogram(histogram_of(DISTRIBUTIONS["a lone outlier"]), observer)
        assert 2.5 < amax < 30

    @pytest.mark.parametrize("observer", Observer)
    def test_scales_with_the_data(self, observer):
        x = laplace(20_000)
        amax = amax_from_histogram(histogram_of(x), observer)
        assert amax_from_histogram(histogram_of(x * 8), observer) == pytest.approx(8 * amax, rel=1e-6)

    @pytest.mark.parametrize("observer", Observer)
    def test_only_zeros_or_nothing(self, observer):
        assert amax_from_histogram(histogram_of(torch.zeros(100)), observer) == 0.0
        assert amax_from_histogram(Histogram(), observer) == 0.0

    def test_percentile_leaves_one_in_ten_thousand_above(self):
        x = DISTRIBUTIONS["laplace"]
        amax = amax_from_histogram(histogram_of(x), Observer.PERCENTILE)
        assert 1 <= int((x.abs() > amax).sum()) <= 5  # of 50,000

    def test_percentile_of_few_values_is_the_maximum(self):
        x = normal(1000)
        assert amax_from_histogram(histogram_of(x), Observer.PERCENTILE) == float(x.abs().max())

    @pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
    def test_mse_has_the_least_true_squared_error(self, x):
        def true_error(amax: float) -> float:
            y = fake_quantize(x, torch.tensor(scale_from_amax(amax)))
            return float((y.double() - x.double()).square().sum())

        histogram = histogram_of(x)
        errors = {o: true_error(amax_from_histogram(histogram, o)) for o in Observer}
        # The histogram knows a value to within a bin: a hundredth is what that costs at most here.
        assert all(errors[Observer.MSE] <= 1.01 * error for error in errors.values())

    def test_mse_clips_to_save_the_many(self):
        histogram = histogram_of(DISTRIBUTIONS["laplace"])
        assert amax_from_histogram(histogram, Observer.MSE) < 0.95 * histogram.amax

    @pytest.mark.parametrize("observer", Observer)
    def test_uniform_data_is_hardly_clipped(self, observer):
        histogram = histogram_of(DISTRIBUTIONS["uniform"])
        assert amax_from_histogram(histogram, observer) > 0.95 * histogram.amax
