"""The C++ encoder against the same arithmetic in numpy: every instruction set, any shape, both schemes of scales."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engines.native import available
from octavo.engines.native.extension import instruction_sets
from octavo.engines.native.weights import Activation, StatesRead
from octavo.text.layout import NO_OFFSET, Positions

from .conftest import LONGEST, VOCABULARY, numpy_answer

ISAS = instruction_sets() if available() else ["portable"]


def assert_equals_numpy(encoder, weights, batch, positions=NO_OFFSET):
    expected, tolerance = numpy_answer(weights, batch, positions)
    got = encoder.run(batch)
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


@pytest.mark.parametrize("per_token", [False, True], ids=["static", "per token"])
@pytest.mark.parametrize("reads", StatesRead)
def test_equals_numpy(make_weights, make_encoder, random_batch, isa, reads, per_token):
    weights = make_weights(reads=reads, per_token=per_token, normalize=reads is StatesRead.MEAN)
    encoder = make_encoder(weights, isa)
    for lengths in ([1], [7], [3, 1, 17, 40, 2, 9], [65, 1, 130]):
        batch = random_batch(lengths, reads={"one": "last", "words": "words"}.get(reads, ""))
        assert_equals_numpy(encoder, weights, batch)


@pytest.mark.parametrize("activation", [Activation.GELU, Activation.GELU_TANH, Activation.RELU])
def test_activations(make_weights, make_encoder, random_batch, isa, activation):
    weights = make_weights(activation=activation)
    batch = random_batch([3, 12])
    assert_equals_numpy(make_encoder(weights, isa), weights, batch)


@pytest.mark.parametrize("head_size", [2, 6, 10, 16, 32, 64, 80])
def test_head_sizes(make_weights, make_encoder, random_batch, isa, head_size):
    """Also those that fill no vector, and hidden sizes that are no multiple of a panel."""
    weights = make_weights(hidden=3 * head_size, heads=3, inner=5 * head_size)
    batch = random_batch([5, 1, 70])
    assert_equals_numpy(make_encoder(weights, isa), weights, batch)


@settings(max_examples=25)
@given(
    heads=st.integers(1, 5),
    half_head=st.integers(1, 20),
    inner=st.integers(1, 150),
    layers=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 40) | st.integers(1, 140), min_size=1, max_size=9),
    reads=st.sampled_from(StatesRead),
    dense=st.booleans(),
    outputs=st.none() | st.integers(1, 40),
    per_token=st.booleans(),
    threads=st.integers(1, 3),
    isa=st.sampled_from(ISAS),
    seed=st.integers(0, 2**16),
)
def test_any_shape(
    make_weights, make_encoder, random_batch, heads, half_head, inner, lengths, reads, threads, isa, seed, **options
):
    weights = make_weights(hidden=2 * half_head * heads, heads=heads, inner=inner, reads=reads, seed=seed, **options)
    batch = random_batch(lengths, seed, reads="words" if reads is StatesRead.WORDS else "")
    assert_equals_numpy(make_encoder(weights, isa, threads), weights, batch)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 511, 512, LONGEST])
def test_lengths(make_weights, make_encoder, random_batch, length):
    weights = make_weights(reads=StatesRead.WORDS, layers=1)
    batch = random_batch([length], reads="words")
    assert_equals_numpy(make_encoder(weights), weights, batch)


def test_segments_and_positions(make_weights, make_encoder, random_batch):
    weights, positions = make_weights(), Positions(offset=2, segment_stride=LONGEST)
    batch = random_batch([9, 5, 30], segments=True)
    encoder = make_encoder(weights, positions=positions)
    assert_equals_numpy(encoder, weights, batch, positions)
    _, tolerance = numpy_answer(weights, batch, positions)
    assert np.abs(encoder.run(batch) - make_encoder(weights).run(batch)).max() > 2.5 * tolerance


@pytest.mark.parametrize("per_token", [False, True], ids=["static", "per token"])
def test_levels_are_exact_but_for_rare_flips(make_weights, make_encoder, random_batch, isa, per_token):
    """Sequences of one token keep a flip to themselves; the other scheme is off in every one of them."""
    options = {"layers": 1, "activation": Activation.RELU}
    weights, other = (make_weights(per_token=scheme, **options) for scheme in (per_token, not per_token))
    batch = random_batch([1] * 60)
    expected = numpy_answer(weights, batch)[0]
    right, wrong = (np.abs(make_encoder(model, isa).run(batch) - expected).max(axis=1) for model in (weights, other))
    assert (right < 1e-5).mean() > 0.9
    assert (wrong > 1e-3).mean() > 0.9


def test_all_instruction_sets_equal_the_portable_one(make_weights, make_encoder, random_batch):
    weights = make_weights(hidden=96, heads=3, inner=200, reads=StatesRead.WORDS)
    batch = random_batch([11, 64, 3], reads="words")
    portable = make_encoder(weights, "portable").run(batch)
    _, tolerance = numpy_answer(weights, batch)
    for name in ISAS:
        off = np.abs(make_encoder(weights, name).run(batch) - portable)
        assert off.max() < tolerance
        assert np.median(off) < 1e-5  # but where roundings flip, they agree to float errors


def test_a_token_of_zeros_has_levels_of_zero(make_weights, make_encoder, random_batch):
    """Its scale for each token would be 0 by 0."""
    weights = make_weights(per_token=True)
    quiet = replace(weights.norm, weight=np.zeros_like(weights.norm.weight), bias=np.zeros_like(weights.norm.bias))
    weights = replace(weights, norm=quiet)
    batch = random_batch([4, 2])
    assert_equals_numpy(make_encoder(weights), weights, batch)


def test_levels_are_clipped_at_both_ends(make_weights, make_encoder, random_batch, isa):
    """Scales fifty times smaller: most levels are -128 or 127, the largest sums that there are."""
    weights = make_weights(hidden=64, heads=2, inner=256)

    def clipped(linear):
        return replace(linear, input_scale=linear.input_scale / 50)

    layers = [
        replace(
            layer,
            qkv=[clipped(part) for part in layer.qkv],
            attention_output=clipped(layer.attention_output),
            ffn1=clipped(layer.ffn1),
            ffn2=clipped(layer.ffn2),
        )
        for layer in weights.layers
    ]
    weights = replace(weights, layers=layers)
    batch = random_batch([6, 20])
    assert_equals_numpy(make_encoder(weights, isa), weights, batch)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_callers_from_many_threads_get_their_own_answers(make_weights, make_encoder, random_batch, threads):
    encoder = make_encoder(make_weights(), threads=threads)
    rng = np.random.default_rng(0)
    batches = [random_batch(rng.integers(1, 60, rng.integers(1, 9)), seed) for seed in range(40)]
    serial = [encoder.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for expected, got in zip(serial * 3, pool.map(encoder.run, batches * 3), strict=True):
            assert np.array_equal(got, expected)


def test_the_number_of_threads_changes_no_bit(make_weights, make_encoder, random_batch):
    weights = make_weights(hidden=64, heads=2, inner=200)
    encoders = [make_encoder(weights, threads=threads) for threads in (1, 2, 3, 8)]
    for lengths in ([1], [11], [3, 1, 17, 40, 2, 9], [60] * 12, [512, 1]):
        first, *others = [encoder.run(random_batch(lengths)) for encoder in encoders]
        assert all(np.array_equal(first, other) for other in others)


class TestBadBatches:
    """Each is a clear error, and the next call is right again."""

    @pytest.mark.parametrize(
        ("ids", "offsets", "segments", "reads", "message"),
        [
            ([5, VOCABULARY], [0, 2], None, None, "token id 1 is 64; it must be from 0 to 63"),
            ([5, -1], [0, 2], None, None, "token id 1 is -1"),
            ([5, 6], [1, 2], None, None, "offset 0 is 1"),
            ([5, 6, 7], [0, 2, 1, 3], None, None, "offset 2 is 1"),
            ([5, 6], [0, 1, 1, 2], None, None, "offset 2 is 1"),
            ([5, 6], [0, 3], None, None, "offset 1 is 3"),
            ([5, 6], [0, 1], None, None, "offset 1 is 1; it must be from 2 to 2"),
            ([5, 6], [0, -(2**62)], None, None, "offset 1 is -4611686018427387904"),
            ([5, 6], [0, 2**63 - 1], None, None, "offset 1 is 9223372036854775807"),
            ([5, 6], [], None, None, "offsets are empty"),
            ([5] * (LONGEST + 1), [0, LONGEST + 1], None, None, f"it must be from 1 to {LONGEST}"),
            ([5, 6], [0, 2], [0], None, "1 segments for 2 tokens"),
            ([5, 6], [0, 2], [0, 2], None, "segment 1 is 2"),
            ([5, 6], [0, 2], None, [2], "read 0 is 2"),
            ([5, 6], [0, 1, 2], None, [0, 0], "read 1 is 0; it must be from 1 to 1"),
            ([5, 6], [0, 2], None, [0, 1], "the batch names 2"),
        ],
        ids=lambda value: str(value)[:24],
    )
    def test_values_out_of_range(
        self, make_weights, make_encoder, random_batch, ids, offsets, segments, reads, message
    ):
        encoder = make_encoder(make_weights(), positions=Positions(0, LONGEST))
        good = random_batch([4, 2])
        expected = encoder.run(good)
        arrays = [None if values is None else np.array(values, np.int64) for values in (ids, offsets, segments, reads)]
        with pytest.raises(ValueError, match=message):
            encoder.native.run(*arrays)
        assert np.array_equal(encoder.run(good), expected)

    def test_reads_of_a_head_for_words(self, make_weights, make_encoder):
        encoder = make_encoder(make_weights(reads=StatesRead.WORDS))
        ids, offsets = np.array([5, 6]), np.array([0, 2])
        for place in (-1, 2):
            with pytest.raises(ValueError, match=f"read 1 is {place}; it must be from 0 to 1"):
                encoder.native.run(ids, offsets, None, np.array([0, place]))

    def test_a_position_behind_the_table(self, make_weights, make_encoder):
        encoder = make_encoder(make_weights(), positions=Positions(2 * LONGEST - 3))
        encoder.native.run(np.array([5, 6, 7]), np.array([0, 3]), None, None)
        with pytest.raises(ValueError, match=f"position 3 is {2 * LONGEST}"):
            encoder.native.run(np.array([5, 6, 7, 8]), np.array([0, 4]), None, None)

    def test_no_sequences(self, make_weights, make_encoder):
        none = np.zeros(0, np.int64)
        assert make_encoder(make_weights()).native.run(none, np.zeros(1, np.int64), None, None).shape == (0, 5)

    @pytest.mark.parametrize("ids", [np.zeros(2, np.float32), np.zeros((1, 2), np.int64), np.arange(4)[::2]], ids=str)
    def test_arrays_of_another_form(self, make_weights, make_encoder, ids):
        """`NativeEngine` converts; the extension refuses rather than misread."""
        with pytest.raises(TypeError):
            make_encoder(make_weights()).native.run(ids, np.array([0, 2]), None, None)


class TestBadWeights:
    @pytest.mark.parametrize(
        ("part", "change", "message"),
        [
            ("weight_scale", lambda a: a[:-1], "weight_scale has 47 values, not 48"),
            ("bias", lambda a: a[:-1], "bias has 47 values, not 48"),
            ("input_factor", lambda a: a[:-1], "input_factor has 31 values, not 32"),
            ("weight", lambda a: np.ascontiguousarray(a[:-1]), "weight is 31 x 48, not 32 x 48"),
            ("weight", lambda a: np.full_like(a, -128), "level -128"),
            ("bias", lambda a: a * np.float32("nan"), "bias holds NaN or infinity"),
            ("weight_scale", lambda a: a * np.float32("inf"), "weight_scale holds NaN or infinity"),
            ("input_scale", lambda a: 0.0, "input_scale is 0.0"),
            ("input_scale", lambda a: float("nan"), "input_scale is nan"),
        ],
    )
    def test_of_a_linear_layer(self, make_weights, make_encoder, part, change, message):
        weights = make_weights()
        layer = weights.layers[0]
        ffn1 = replace(layer.ffn1, **{part: change(getattr(layer.ffn1, part))})
        with pytest.raises(ValueError, match=f"layers.0.ffn1.*{message}"):
            make_encoder(replace(weights, layers=[replace(layer, ffn1=ffn1), *weights.layers[1:]]))

    def test_that_do_not_fit_together(self, make_weights, make_encoder):
        weights = make_weights()
        narrow = make_weights(hidden=16)
        for broken, message in (
            (replace(weights, layers=[]), "no layers"),
            (replace(weights, heads=5), "cannot be shared by 5 heads"),
            (replace(weights, positions=narrow.positions), "differ in width"),
            (replace(weights, norm=narrow.norm), "embeddings.norm.weight has 16 values"),
            (replace(weights, dense=narrow.dense), "head.dense.weight does not fit"),
            (replace(weights, output=narrow.output), "head.output.weight does not fit"),
            (replace(weights, layers=weights.layers[:1]), "is not in two parts"),
            (replace(weights, layers=weights.layers[::-1]), "is not in one part"),
        ):
            with pytest.raises(ValueError, match=message):
                make_encoder(broken)

    def test_an_instruction_set_that_nobody_has(self, make_weights, make_encoder):
        with pytest.raises(ValueError, match=r"'mmx' is not to be had; this machine has .*portable"):
            make_encoder(make_weights(), "mmx")
