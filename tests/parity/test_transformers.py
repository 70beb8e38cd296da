import json

import numpy as np
import pytest
import torch

from octavo.encoder.folder import classifier_from_encoder, classifier_from_folder, read_folder, save_classifier
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer

FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert"]
PAD = {"bert": 0, "roberta": 1, "xlm-roberta": 1, "distilbert": 0}
LENGTHS = {
    "one token": [1],
    "longest": [512],
    "all of one token": [1] * 64,
    "first is longest": [40, 2, 7],
    "last is longest": [1, 3, 2, 33],
    "from 1 to 512": [1, 512, 17, 100],
    "64 of mixed length": np.random.default_rng(0).integers(1, 60, 64).tolist(),
}
ODD_SIZES = {
    "head of 13": {"hidden": 26, "heads": 2, "inner": 37},
    "head of 1": {"hidden": 7, "heads": 7, "inner": 5},
    "one head, one layer": {"hidden": 24, "heads": 1, "inner": 96, "layers": 1},
    "three layers": {"hidden": 36, "heads": 3, "layers": 3},
}


def padded(batch: TokenBatch, pad: int) -> dict[str, torch.Tensor]:
    """The batch as `transformers` wants it: ids filled up with the padding token, and a mask."""
    ids = torch.full((len(batch), batch.max_length), pad)
    mask = torch.zeros_like(ids)
    for row, (start, end) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        ids[row, : end - start] = torch.from_numpy(batch.ids[start:end])
        mask[row, : end - start] = 1
    return {"input_ids": ids, "attention_mask": mask}


def packed(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """(batch, length, hidden) → (tokens, hidden)."""
    return torch.cat([hidden[row, :length] for row, length in enumerate(batch.lengths)])


@pytest.fixture(scope="module")
def pairs(make_folder):
    """Theirs and ours, by family and sizes, built once."""
    import transformers

    built = {}

    def pair(family, **sizes):
        key = (family, *sorted(sizes.items()))
        if key not in built:
            folder = make_folder(family, **sizes)
            theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
            built[key] = theirs, classifier_from_folder(read_folder(folder))
        return built[key]

    return pair


def assert_same_logits(theirs, ours, batch, inputs_of, family):
    with torch.no_grad():
        expected = theirs(**padded(batch, PAD[family])).logits
        got = ours(*inputs_of(batch, ours.config.position_offset))
    assert expected.std() > 0.05  # otherwise a constant would pass
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal(pairs, make_batch, inputs_of, family, lengths):
    assert_same_logits(*pairs(family), make_batch(lengths), inputs_of, family)


@pytest.mark.parametrize("sizes", ODD_SIZES.values(), ids=ODD_SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_at_odd_sizes(pairs, make_batch, inputs_of, family, sizes):
    assert_same_logits(*pairs(family, **sizes), make_batch([5, 1, 19, 8]), inputs_of, family)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_every_activation(pairs, make_batch, inputs_of, activation):
    assert_same_logits(*pairs("bert", activation=activation), make_batch([5, 1, 19]), inputs_of, "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_of_every_token_equal(pairs, make_batch, inputs_of, family):
    theirs, ours = pairs(family)
    batch = make_batch([4, 31, 1, 12])
    with torch.no_grad():
        hidden = theirs.base_model(**padded(batch, PAD[family])).last_hidden_state
        got = ours.encoder(*inputs_of(batch, ours.config.position_offset)[:-1])
    torch.testing.assert_close(got, packed(hidden, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_first_token_alone_equals_first_row_of_all(make_classifier, make_batch, inputs_of, lengths, layers):
    encoder = make_classifier(layers=layers).encoder
    batch = make_batch(lengths)
    inputs = inputs_of(batch)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.forward_first(*inputs), encoder(*inputs[:-1])[batch.offsets[:-1]], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_padding_to_a_larger_shape_changes_nothing(make_classifier, make_batch, inputs_of, family):
    model = make_classifier(family)
    batch = make_batch([5, 1, 19])
    offset = model.config.position_offset
    with torch.no_grad():
        plain = model(*inputs_of(batch, offset))
        got = model(*inputs_of(batch, offset, (40, 8, 32)))
    assert got.shape == (8, 5)
    torch.testing.assert_close(got[:3], plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_classifier_loads_in_transformers(make_folder, make_batch, inputs_of, tmp_path, family):
    import transformers

    template = read_folder(make_folder(family))
    labels = ("音楽", "weather", "other")
    ours = classifier_from_encoder(template, len(labels), seed=3)
    with torch.no_grad():
        for parameter in ours.parameters():  # as if it had been trained
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    save_classifier(ours, labels, template, tmp_path / "out")
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(labels))
    assert_same_logits(theirs.eval(), ours, make_batch([5, 1, 19, 8]), inputs_of, family)
    again = classifier_from_folder(read_folder(tmp_path / "out"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


def test_saved_classifier_is_float32_though_its_template_was_float16(make_folder, tmp_path):
    import transformers

    folder = make_folder("bert")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}), "utf-8")
    template = read_folder(folder)
    save_classifier(classifier_from_folder(template), template.labels, template, tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert theirs.dtype == torch.float32


def test_every_token_of_the_real_minilm_equals(sample_encoder_folder, inputs_of):
    import transformers

    batch = Tokenizer.from_folder(sample_encoder_folder, 256).encode(
        [
            "Archive a directory with gzip compression",
            "ls",
            "Create a new branch from the current commit, switch to it, and push it to the remote",
            "Zeige alle laufenden Container an 🐳",
        ]
    )
    theirs = transformers.AutoModel.from_pretrained(sample_encoder_folder).eval()
    ours = classifier_from_encoder(read_folder(sample_encoder_folder), 2, seed=0)
    with torch.no_grad():
        expected = theirs(**padded(batch, PAD["bert"]))
        inputs = inputs_of(batch)
        every = ours.encoder(*inputs[:-1])
        first = ours.encoder.forward_first(*inputs)
        pooled = torch.tanh(ours.head.dense(first))
    torch.testing.assert_close(every, packed(expected.last_hidden_state, batch), atol=1e-5, rtol=0)
    torch.testing.assert_close(first, expected.last_hidden_state[:, 0], atol=1e-5, rtol=0)
    # The pooler that came with the encoder becomes the head's dense layer.
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=0)
