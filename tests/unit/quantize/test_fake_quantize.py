import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from octavo.quantize.fake_quantize import (
    QMAX,
    QMIN,
    ActivationQuantizer,
    TokenQuantizer,
    fake_quantize,
    fake_quantize_weight,
    int8_weight,
    scale_from_amax,
    token_scales,
    weight_scale,
)

scales = st.floats(1e-5, 1e3).map(lambda x: torch.tensor(x, dtype=torch.float32))
levels = arrays(np.float64, 24, elements=st.floats(-300, 300))  # in units of the scale, both ends clipped
weights = arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32))


def tensor_from(levels, scale) -> torch.Tensor:
    return torch.from_numpy(levels * float(scale)).float()


def inside(levels) -> torch.Tensor:
    """Which values round to a level of their own and are not clipped; ties at the ends are left out."""
    return torch.from_numpy((levels > QMIN - 0.499) & (levels < QMAX + 0.499))


def outside(levels) -> torch.Tensor:
    return torch.from_numpy((levels < QMIN - 0.501) | (levels > QMAX + 0.501))


class TestForward:
    @given(levels, scales)
    def test_at_most_half_a_step_inside_the_range(self, levels, scale):
        x = tensor_from(levels, scale)
        error = (fake_quantize(x, scale) - x).abs()
        assert (error[inside(levels)] <= scale * 0.5001).all()

    @given(levels, scales)
    def test_clips_outside_the_range(self, levels, scale):
        y = fake_quantize(tensor_from(levels, scale), scale)
        expected = torch.where(torch.from_numpy(levels > 0), QMAX * scale, QMIN * scale)
        assert torch.equal(y[outside(levels)], expected[outside(levels)])

    @given(levels, scales)
    def test_gives_whole_levels(self, levels, scale):
        y = fake_quantize(tensor_from(levels, scale), scale) / scale
        torch.testing.assert_close(y, y.round(), atol=1e-4, rtol=0)

    @given(levels, scales)
    def test_is_idempotent(self, levels, scale):
        once = fake_quantize(tensor_from(levels, scale), scale)
        assert torch.equal(fake_quantize(once, scale), once)

    @given(levels, scales)
    def test_keeps_order_and_zero(self, levels, scale):
        y = fake_quantize(tensor_from(np.sort(levels), scale), scale)
        assert (y.diff() >= 0).all()
        assert fake_quantize(torch.zeros(1), scale).item() == 0.0


class TestGradients:
    @given(levels, scales)
    def test_input_gradient_is_one_inside_and_zero_outside(self, levels, scale):
        x = tensor_from(levels, scale).requires_grad_()
        weight = torch.arange(1.0, 25.0)
        (fake_quantize(x, scale) * weight).sum().backward()
        assert torch.equal(x.grad[inside(levels)], weight[inside(levels)])
        assert not x.grad[outside(levels)].any()

    @given(levels, st.floats(0.01, 10))
    def test_scale_gradient_is_that_of_the_surrogate(self, levels, scale):
        """Inside, the rounding residue is a constant number of steps; outside, the function itself is smooth."""
        weight = torch.linspace(-1, 1, 24, dtype=torch.float64)
        # Halfway between two levels, float32 and the float64 below may round apart, and both are right.
        decided = torch.from_numpy(np.abs(levels % 1 - 0.5) > 1e-3)
        chosen = (inside(levels) | outside(levels)) & decided
        at = torch.tensor(scale, dtype=torch.float32, requires_grad=True)
        x = tensor_from(levels, at.detach())
        (fake_quantize(x, at) * weight * chosen).sum().backward()

        exact, step = x.double(), float(at.detach())
        residue = (exact / step).round() - exact / step

        def surrogate(s: float) -> torch.Tensor:
            clipped = (exact / s).round().clamp(QMIN, QMAX) * s
            return (torch.where(inside(levels), exact + residue * s, clipped) * weight * chosen).sum()

        h = step * 1e-5
        expected = float(surrogate(step + h) - surrogate(step - h)) / (2 * h)
        assert at.grad.item() == pytest.approx(expected, abs=2e-2)  # float32 sums of up to 24 x 128

    def test_scale_gradient_of_single_values(self):
        for value, expected in ((0.3, -0.3), (0.7, 0.3), (5.0, 0.0), (-2.4, 0.4), (200.0, 127), (-200.0, -128)):
            scale = torch.tensor(0.5, requires_grad=True)
            fake_quantize(torch.tensor([value * 0.5]), scale).sum().backward()
            assert scale.grad.item() == pytest.approx(expected, abs=1e-5)

    def test_only_what_is_asked_for(self):
        scale = torch.tensor(0.5, requires_grad=True)
        x = torch.ones(3, requires_grad=True)
        fake_quantize(x, scale.detach()).sum().backward()
        assert scale.grad is None
        assert torch.equal(x.grad, torch.ones(3))

    def test_the_learned_scale_moves_towards_the_data(self):
        """A step size that clips half of the data grows; one that wastes levels shrinks."""
        x = torch.linspace(-1, 1, 1001)
        for amax, grows in ((0.3, True), (40.0, False)):
            quantizer = ActivationQuantizer(amax)
            before = quantizer.scale.item()
            optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
            for _ in range(20):
                optimizer.zero_grad()
                (quantizer(x) - x).square().sum().backward()
                optimizer.step()
            assert (quantizer.scale.item() > before) is grows


class TestActivationQuantizer:
    @pytest.mark.parametrize("amax", [1e-3, 1.0, 28.7, 1e4])
    def test_amax_is_the_highest_level(self, amax):
        quantizer = ActivationQuantizer(amax)
        x = torch.tensor([amax, -amax, 2 * amax])
        with torch.no_grad():
            torch.testing.assert_close(quantizer(x), torch.tensor([amax, -amax, amax]), rtol=1e-6, atol=0)

    def test_of_zeros_stays_finite(self):
        quantizer = ActivationQuantizer(0.0)
        y = quantizer(torch.zeros(3))
        y.sum().backward()
        assert math.isfinite(quantizer.log_scale.item())
        assert math.isfinite(quantizer.log_scale.grad.item())
        assert not y.any()
        assert scale_from_amax(0.0) > 0


class TestTokenQuantizer:
    @given(arrays(np.float32, (4, 6), elements=st.floats(-1e4, 1e4, width=32)))
    def test_every_row_is_rounded_by_its_own_largest_value(self, rows):
        x = torch.from_numpy(rows)
        y, scales = TokenQuantizer()(x), token_scales(x)
        assert torch.equal(y, torch.cat([TokenQuantizer()(row[None]) for row in x]))  # the others do not matter
        levels = y / scales
        assert float(levels.abs().max()) <= 127.001
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        assert ((y - x).abs() <= 0.5001 * scales).all()  # nothing is clipped

    def test_the_largest_value_has_the_highest_level(self):
        x = torch.tensor([[0.5, -2.0], [30.0, 1.0]])
        assert (TokenQuantizer()(x) / token_scales(x)).round().abs().amax(dim=1).tolist() == [127, 127]

    def test_a_row_of_zeros_stays_one(self):
        x = torch.zeros(2, 3, requires_grad=True)
        TokenQuantizer()(x).sum().backward()
        assert not TokenQuantizer()(x).any()
        assert torch.equal(x.grad, torch.ones(2, 3))

    def test_the_gradient_passes_straight_through(self):
        x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
        weights = torch.arange(15.0).reshape(3, 5)
        (TokenQuantizer()(x) * weights).sum().backward()
        assert torch.equal(x.grad, weights)


class TestWeights:
    @given(weights)
    def test_levels_times_scales_are_what_training_saw(self, weight):
        weight = torch.from_numpy(weight)
        stored, scale = int8_weight(weight)
        assert stored.dtype == torch.int8
        assert int(stored.abs().max()) <= 127  # -128 is never used
        torch.testing.assert_close(stored * scale[:, None], fake_quantize_weight(weight), rtol=1e-6, atol=0)

    @given(weights)
    def test_error_is_at_most_half_a_step_of_the_channel(self, weight):
        weight = torch.from_numpy(weight)
        error = (fake_quantize_weight(weight) - weight).abs()
        assert (error <= weight_scale(weight)[:, None] * 0.5001).all()

    @given(weights)
    def test_each_channel_reaches_its_highest_level(self, weight):
        stored, _ = int8_weight(torch.from_numpy(weight))
        for row, levels in zip(weight, stored, strict=True):
            largest = np.abs(row).max()
            if largest == 0:
                assert not levels.any()
            elif largest > 127 * 1e-12:  # below, the smallest scale holds
                assert int(levels.abs().max()) == 127

    def test_channels_are_independent(self):
        weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        louder = weight * torch.tensor([[1.0], [1000.0], [1.0]])
        one, other = int8_weight(weight)[0], int8_weight(louder)[0]
        assert torch.equal(one, other)

    def test_negating_a_weight_negates_its_levels(self):
        weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(int8_weight(-weight)[0], -int8_weight(weight)[0])

    def test_a_channel_of_zeros(self):
        weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
        stored, scale = int8_weight(weight)
        assert stored[0].tolist() == [0, 0]
        assert scale[0] > 0
        assert torch.equal(fake_quantize_weight(weight)[0], torch.zeros(2))

    def test_the_gradient_passes_straight_through(self):
        weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        factor = torch.arange(64.0).view(4, 16)
        (fake_quantize_weight(weight) * factor).sum().backward()
        assert torch.equal(weight.grad, factor)  # the largest of each channel included
