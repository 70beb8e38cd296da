import json
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from octavo.encoder.folder import model_from_encoder, model_from_folder, read_folder, save_model
from octavo.encoder.running import run_all
from octavo.ladder.baselines import torch_fp32
from octavo.tasks.base import FolderFacts, Head, Reads
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.labels import config_from_labels
from octavo.tasks.rank import Rank
from octavo.tasks.registry import task_from_facts
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import Outputs, Pair, Words

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
    """The batch as `transformers` wants it: ids filled up with the padding token, a mask, and segments if any."""
    ids = torch.full((len(batch), batch.max_length), pad)
    mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (start, end) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        ids[row, : end - start] = torch.from_numpy(batch.ids[start:end])
        mask[row, : end - start] = 1
        if batch.segments is not None:
            segments[row, : end - start] = torch.from_numpy(batch.segments[start:end])
    encoded = {"input_ids": ids, "attention_mask": mask}
    return encoded if batch.segments is None else {**encoded, "token_type_ids": segments}


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
            built[key] = theirs, model_from_folder(read_folder(folder), Head(Reads.FIRST, 5, dense=True))
        return built[key]

    return pair


def assert_same_logits(theirs, ours, batch, inputs_of, family):
    with torch.no_grad():
        expected = theirs(**padded(batch, PAD[family])).logits
        got = ours(*inputs_of(batch, ours.config.positions))
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
        got = ours.encoder(*inputs_of(batch, ours.config.positions)[:-1])
    torch.testing.assert_close(got, packed(hidden, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_pairs_equal(pairs, make_folder, make_batch, inputs_of, family):
    if family in ("bert", "distilbert"):  # DistilBERT has no segments, and is given none
        theirs, ours = pairs(family)
    else:  # RoBERTa has one segment as it comes; some checkpoints have two
        theirs, ours = with_two_segments(make_folder(family))
    batch = make_batch([9, 4, 23, 2], head="pairs")
    if family == "distilbert":
        batch = TokenBatch(batch.ids, batch.offsets)
    assert_same_logits(theirs, ours, batch, inputs_of, family)
    if family != "distilbert":
        with torch.no_grad():
            one, other = (
                ours(*inputs_of(b, ours.config.positions)) for b in (batch, TokenBatch(batch.ids, batch.offsets))
            )
        assert (one - other).abs().max() > 0.01  # segments do matter


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_segments_of_a_pair_change_nothing_where_there_is_one(pairs, make_batch, inputs_of, family):
    """Their tokenizers put both texts into segment 0; a batch that says otherwise is not misread."""
    _, ours = pairs(family)
    batch = make_batch([9, 4], head="pairs")
    with torch.no_grad():
        one, other = (ours(*inputs_of(b, ours.config.positions)) for b in (batch, TokenBatch(batch.ids, batch.offsets)))
    assert torch.equal(one, other)


def with_two_segments(folder):
    """Theirs and ours after the folder's model was given a second segment."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, type_vocab_size=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = transformers.AutoModelForSequenceClassification.from_config(config)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter += torch.randn_like(parameter) * 0.1
    theirs.save_pretrained(folder)
    return theirs.eval(), model_from_folder(read_folder(folder), Head(Reads.FIRST, 5, dense=True))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_words_equal(taggers, make_batch, inputs_of, family, lengths):
    theirs, ours = taggers(family)
    batch = make_batch(lengths, head="words")
    with torch.no_grad():
        logits = theirs(**padded(batch, PAD[family])).logits
        got = ours(*inputs_of(batch, ours.config.positions))[: len(batch.read_places)]
    expected = packed(logits, batch)[batch.read_places]
    assert expected.std() > 0.05
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def taggers(make_folder):
    """Theirs and ours, by family, built once."""
    import transformers

    @cache
    def pair(family):
        folder = make_folder(family, kind="ForTokenClassification")
        theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
        return theirs, model_from_folder(read_folder(folder), Head(Reads.WORDS, 5))

    return pair


@pytest.fixture(scope="module")
def encoders(make_folder):
    """Their encoder and its folder, by family, built once."""
    import transformers

    @cache
    def pair(family):
        folder = make_folder(family, kind="Model")
        return transformers.AutoModel.from_pretrained(folder).eval(), read_folder(folder)

    return pair


POOLINGS = {
    "mean": lambda states, mask: (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True),
    "first": lambda states, mask: states[:, 0],
    "last": lambda states, mask: states[torch.arange(len(states)), mask.sum(1) - 1],
}


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "normalized"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_equal(encoders, make_batch, inputs_of, family, pooling, normalize):
    theirs, folder = encoders(family)
    ours = model_from_folder(folder, Head(Reads(pooling), normalize=normalize))
    for lengths in LENGTHS.values():
        batch = make_batch(lengths, head=pooling)
        encoded = padded(batch, PAD[family])
        with torch.no_grad():
            expected = POOLINGS[pooling](theirs(**encoded).last_hidden_state, encoded["attention_mask"])
            got = ours(*inputs_of(batch, ours.config.positions))
        if normalize:
            expected = torch.nn.functional.normalize(expected, dim=-1)
        assert expected.std() > 0.05
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("head", ["first", "last"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_one_token_alone_equals_its_row_of_all(make_model, make_batch, inputs_of, lengths, head, layers):
    encoder = make_model(head=head, layers=layers).encoder
    batch = make_batch(lengths, head=head)
    inputs = inputs_of(batch)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.forward_read(*inputs), encoder(*inputs[:-1])[batch.read_places], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("head", ["classify", "pairs", "words", "mean", "last", "first"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_padding_to_a_larger_shape_changes_nothing(make_model, make_batch, inputs_of, family, head):
    model = make_model(family, head)
    batch = make_batch([5, 1, 19], head=head)
    positions, reads = model.config.positions, len(batch.read_places)
    with torch.no_grad():
        plain = model(*inputs_of(batch, positions))[:reads]
        got = model(*inputs_of(batch, positions, (40, 8, 32)))
    assert got.shape == (40 if head == "words" else 8, model.width)
    assert got.isfinite().all()  # the mean over a sequence of padding too
    torch.testing.assert_close(got[:reads], plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_classifier_loads_in_transformers(make_folder, make_batch, inputs_of, tmp_path, family):
    import transformers

    template = read_folder(make_folder(family))
    labels = ("音楽", "weather", "other")
    ours = model_from_encoder(template, Classify(labels).head, seed=3)
    with torch.no_grad():
        for parameter in ours.parameters():  # as if it had been trained
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    save_model(ours, Classify(labels), template, tmp_path / "out")
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(labels))
    assert_same_logits(theirs.eval(), ours, make_batch([5, 1, 19, 8]), inputs_of, family)
    read = read_folder(tmp_path / "out")
    again = model_from_folder(read, task_from_facts(read.facts).head)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters(), strict=True))


@dataclass(frozen=True)
class Tagger:
    """What `save_model` asks of a task, for a head that answers each word."""

    head = Head(Reads.WORDS, 3)

    def folder_facts(self):
        return FolderFacts(config_from_labels(("O", "B-place", "I-place")))


@pytest.mark.parametrize(
    ("task", "kind", "head"),
    [
        (Rank("identity"), "AutoModelForSequenceClassification", "pairs"),
        (Tagger(), "AutoModelForTokenClassification", "words"),
        (Embed(Reads.MEAN, dimensions=32), "AutoModel", "mean"),
        (Embed(Reads.FIRST, normalize=False, dimensions=32), "AutoModel", "first"),
        (Embed(Reads.LAST, normalize=False, dimensions=32), "AutoModel", "last"),
    ],
    ids=["rank", "tag", "mean", "first", "last"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_saved_model_loads_in_transformers(
    make_folder, make_batch, inputs_of, tmp_path, family, task, kind, head
):
    import transformers

    template = read_folder(make_folder(family))
    ours = model_from_encoder(template, task.head, seed=3)
    with torch.no_grad():
        for parameter in ours.parameters():  # as if it had been trained
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    save_model(ours, task, template, tmp_path / "out")
    theirs, report = getattr(transformers, kind).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(theirs).__name__ == theirs.config.architectures[0]
    # An embedding needs no pooler, and none is written.
    assert not {name for name in report["missing_keys"] if not (kind == "AutoModel" and name.startswith("pooler."))}
    assert not report["unexpected_keys"]
    batch = make_batch([5, 1, 19, 8], head=head)
    if family != "bert":
        batch = TokenBatch(batch.ids, batch.offsets, None, batch.reads)  # one segment
    encoded = padded(batch, PAD[family])
    with torch.no_grad():
        output = theirs.eval()(**encoded)
        got = ours(*inputs_of(batch, ours.config.positions))[: len(batch.read_places)]
    if kind == "AutoModel":
        expected = POOLINGS[head](output.last_hidden_state, encoded["attention_mask"])
        expected = torch.nn.functional.normalize(expected, dim=-1) if task.normalize else expected
    else:
        expected = packed(output.logits, batch)[batch.read_places] if head == "words" else output.logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


# XLM-RoBERTa's own tokenizer class reads no small BPE like that of `make_folder`.
TOKENIZED = ["bert", "roberta", "distilbert"]


@pytest.mark.parametrize("family", TOKENIZED)
@pytest.mark.parametrize(
    ("kind", "head", "inputs"),
    [
        ("ForSequenceClassification", Head(Reads.FIRST, 5, dense=True), ["book a table", "play", ""]),
        (
            "ForSequenceClassification",
            Head(Reads.FIRST, 5, dense=True),
            [Pair("play it", "music"), Pair("a", "turn it")],
        ),
        ("Model", Head(Reads.MEAN, normalize=True), ["book a table for two", "play"]),
        ("Model", Head(Reads.FIRST), ["book a table for two", "play"]),
    ],
    ids=["texts", "pairs", "mean", "first"],
)
def test_the_baseline_that_is_timed_answers_what_we_answer(make_folder, family, kind, head, inputs):
    folder = make_folder(family, kind=kind)
    read = read_folder(folder)
    expected = torch_fp32(folder, head, 32)(inputs).numpy()
    batch = Tokenizer.from_folder(folder, 32).encode(inputs)
    got = run_all(model_from_folder(read, head), batch, read.config.positions)
    np.testing.assert_allclose(got.values, expected, atol=1e-5)


@pytest.mark.parametrize("family", TOKENIZED)
def test_the_baseline_that_is_timed_reads_words(make_folder, family):
    folder = make_folder(family, kind="ForTokenClassification")
    read = read_folder(folder)
    head, inputs = Head(Reads.WORDS, 5), [Words(("book", "a", "table")), Words(("play",))]
    logits = torch_fp32(folder, head, 32)(inputs).numpy()
    batch = Tokenizer.from_folder(folder, 32).encode(inputs)
    got: Outputs = run_all(model_from_folder(read, head), batch, read.config.positions)
    for row in range(len(batch)):
        places = batch.select([row]).read_places
        np.testing.assert_allclose(got[row], logits[row, places], atol=1e-5)


def test_saved_classifier_is_float32_though_its_template_was_float16(make_folder, tmp_path):
    import transformers

    folder = make_folder("bert")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}), "utf-8")
    template = read_folder(folder)
    task = task_from_facts(template.facts)
    save_model(model_from_folder(template, task.head), task, template, tmp_path / "out")
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
    ours = model_from_encoder(read_folder(sample_encoder_folder), Head(Reads.FIRST, 2, dense=True), seed=0)
    with torch.no_grad():
        expected = theirs(**padded(batch, PAD["bert"]))
        inputs = inputs_of(batch)
        every = ours.encoder(*inputs[:-1])
        first = ours.encoder.forward_read(*inputs)
        pooled = torch.tanh(ours.head.dense(first))
    torch.testing.assert_close(every, packed(expected.last_hidden_state, batch), atol=1e-5, rtol=0)
    torch.testing.assert_close(first, expected.last_hidden_state[:, 0], atol=1e-5, rtol=0)
    # The pooler that came with the encoder becomes the head's dense layer.
    torch.testing.assert_close(pooled, expected.pooler_output, atol=1e-5, rtol=0)
