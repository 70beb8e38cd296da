"""What several folders of tests share: tiny random models, their folders, random batches.

Everything is a fixture that returns a builder; torch and transformers are imported only where one is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from octavo.encoder.config import EncoderConfig, Family
from octavo.tasks.base import Head, Reads
from octavo.text.batch import TokenBatch
from octavo.text.layout import NO_OFFSET, Positions

# No test asserts a wall-clock time. In CI the examples are the same each time; elsewhere they go on searching.
hypothesis.settings.register_profile("octavo", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("octavo")

VOCABULARY = 64
_SPECIAL = 5  # ids below stand for padding, unknown, start, end, mask
_TEXTS = ("book a table for two", "what is the weather", "cancel the order", "play some music", "turn it off")

# Every kind of head that a task asks for, by a name that `make_model` and `make_batch` both know.
HEADS = {
    "classify": Head(Reads.FIRST, 5, dense=True),
    "pairs": Head(Reads.FIRST, 1, dense=True),
    "words": Head(Reads.WORDS, 5),
    "mean": Head(Reads.MEAN, normalize=True),
    "last": Head(Reads.LAST, normalize=True),
    "first": Head(Reads.FIRST),
}


@pytest.fixture(scope="session")
def torch_on_one_thread() -> Any:
    """Torch on one thread: models as small as these lose by more, and other processes use the cores."""
    import torch

    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., TokenBatch]:
    """Return a batch of random ordinary tokens with the given lengths, as a head of some kind is given it."""

    def make(lengths: Iterable[int], seed: int = 0, head: str = "classify") -> TokenBatch:
        rng = np.random.default_rng(seed)
        sequences = [rng.integers(_SPECIAL, VOCABULARY, n).tolist() for n in lengths]
        if head == "pairs":
            segments = [[int(place > len(ids) // 2) for place in range(len(ids))] for ids in sequences]
            return TokenBatch.from_sequences(sequences, segments)
        if head == "words":
            return TokenBatch.from_sequences(sequences, reads=[_word_starts(len(ids), rng) for ids in sequences])
        if head == "last":
            return TokenBatch.from_sequences(sequences, reads=[[len(ids) - 1] for ids in sequences])
        return TokenBatch.from_sequences(sequences)

    return make


def _word_starts(length: int, rng: np.random.Generator) -> list[int]:
    """The first token, then that of each word; a sequence of up to two tokens is one word."""
    later = [place for place in range(2, length) if rng.random() < 0.6]
    return [0, min(1, length - 1), *later]


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., tuple[Any, ...]]:
    """Return a model's arguments for a batch."""
    from octavo.encoder.running import tensors_from_layout
    from octavo.text.layout import layout_from_batch

    def inputs(batch: TokenBatch, positions: Positions = NO_OFFSET, shape: Any = None) -> tuple[Any, ...]:
        return tensors_from_layout(layout_from_batch(batch, positions, shape))

    return inputs


@pytest.fixture(scope="session")
def make_model(torch_on_one_thread: Any) -> Callable[..., Any]:
    """Return a random `EncoderWithHead`, in evaluation mode, with every parameter away from 0 and 1.

    `head` is a `Head`, or the name of one in `HEADS`.
    """
    from octavo.encoder.model import EncoderWithHead

    torch = torch_on_one_thread

    def make(
        family: str = "bert", head: Head | str = "classify", *, seed: int = 0, dropout: float = 0.1, **sizes: Any
    ) -> Any:
        shape = {"hidden_size": 32, "layers": 2, "heads": 4, "intermediate_size": 48, "activation": "gelu"} | sizes
        roberta = family in ("roberta", "xlm-roberta")
        config = EncoderConfig(
            family=Family(family),
            vocabulary_size=VOCABULARY,
            max_positions=514 if roberta else 512,
            type_vocabulary_size={"bert": 2, "distilbert": 0}.get(family, 1),
            layer_norm_eps=1e-12,
            dropout=dropout,
            position_offset=2 if roberta else 0,
            **shape,
        )
        model = EncoderWithHead(config, HEADS[head] if isinstance(head, str) else head)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(std=0.2, generator=generator)
                if name.endswith("norm.weight"):
                    parameter += 1
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_classifier(make_model: Any) -> Callable[..., Any]:
    """Return a random classifier of texts, as `make_model` does."""

    def make(family: str = "bert", *, outputs: int = 5, **options: Any) -> Any:
        return make_model(family, Head(Reads.FIRST, outputs, dense=True), **options)

    return make


@pytest.fixture(scope="session")
def make_quantized(make_model: Any, make_batch: Any, inputs_of: Any) -> Callable[..., Any]:
    """Return a `make_model` model, smoothed, calibrated on random batches and fake-quantized.

    `scheme` says whether activations have a scale per tensor or per token.
    """
    from octavo.quantize.placement import amax_by_layer, calibrate, quantize
    from octavo.quantize.smoothing import smoothing_factors
    from octavo.types import Observer, Scheme

    def make(
        family: str = "bert",
        head: str = "classify",
        *,
        smoothing: float = 0.5,
        scheme: str = "per-tensor",
        **options: Any,
    ) -> Any:
        model = make_model(family, head, **options)
        positions = model.config.positions
        seen = [inputs_of(make_batch([3, 9, 17, 6, 30, 12], seed, head), positions) for seed in range(4)]
        factors = smoothing_factors(model, seen, smoothing) if smoothing else {}
        is_static = Scheme(scheme) is Scheme.PER_TENSOR
        amax = amax_by_layer(calibrate(model, seen, factors), Observer.MAX) if is_static else None
        quantize(model, amax, factors)
        return model

    return make


@pytest.fixture(scope="session")
def reaction_to_flips(torch_on_one_thread: Any) -> Callable[..., float]:
    """Return how far a quantized model's outputs move when roundings flip: the tolerance for another engine.

    Engines sum floats in other orders, so that a value within a float error of the middle between two levels may
    round to the other one. Here one in a hundred values of every quantized tensor moves by one level, which is
    more than float errors ever flip; the answer is the largest change that this makes in some trials.
    """
    from octavo.quantize.fake_quantize import TokenQuantizer, token_scales
    from octavo.quantize.placement import linears

    torch = torch_on_one_thread

    def reaction(model: Any, inputs: Sequence[Any], share: float = 0.01, trials: int = 8) -> float:
        generator = torch.Generator().manual_seed(0)

        def flip(module: Any, args: Any) -> Any:
            x = args[0]
            chosen = torch.rand(x.shape, generator=generator) < share
            signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
            smoothing = torch.ones(()) if module.smoothing is None else module.smoothing
            quantizer = module.input_quantizer
            is_per_token = isinstance(quantizer, TokenQuantizer)
            step = (token_scales(x / smoothing) if is_per_token else quantizer.scale) * smoothing
            return (x + step * chosen * signs, *args[1:])

        with torch.no_grad():
            plain = model(*inputs)
            handles = [linear.register_forward_pre_hook(flip) for linear in linears(model).values()]
            try:
                return max(float((model(*inputs) - plain).abs().max()) for _ in range(trials))
            finally:
                for handle in handles:
                    handle.remove()

    return reaction


def _save_tokenizer(family: str, folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    if family in ("bert", "distilbert"):
        special, start, end = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[CLS]", "[SEP]"
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trainer: Any = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    else:
        special, start, end = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s>", "</s>"
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(_TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}" if start == "<s>" else f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(name, special.index(name)) for name in (start, end)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def make_hf_model(torch_on_one_thread: Any) -> Callable[..., Any]:
    """Return a random `transformers` model, in evaluation mode, with every parameter away from 0 and 1.

    `kind` is the end of its class's name: `ForSequenceClassification`, `ForTokenClassification` or `Model`.
    """
    import transformers

    torch = torch_on_one_thread

    def build(
        family: str,
        *,
        kind: str = "ForSequenceClassification",
        labels: int = 5,
        hidden: int = 32,
        layers: int = 2,
        heads: int = 4,
        inner: int = 48,
        activation: str = "gelu",
    ) -> Any:
        common = {
            "vocab_size": VOCABULARY,
            "id2label": {i: f"label {i}" for i in range(labels)},
            "label2id": {f"label {i}": i for i in range(labels)},
        }
        if family == "distilbert":
            config = transformers.DistilBertConfig(
                dim=hidden, n_layers=layers, n_heads=heads, hidden_dim=inner, activation=activation, **common
            )
            model = getattr(transformers, f"DistilBert{kind}")(config)
        else:
            sizes = {
                "hidden_size": hidden,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "intermediate_size": inner,
                "hidden_act": activation,
            }
            name = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}[family]
            roberta = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
            config = getattr(transformers, f"{name}Config")(**sizes, **common, **({} if family == "bert" else roberta))
            model = getattr(transformers, f"{name}{kind}")(config)
        return model

    def make(family: str, *, seed: int = 0, **options: Any) -> Any:
        with torch.random.fork_rng():  # the weights depend on the seed alone, not on the tests that ran before
            torch.manual_seed(seed)
            model = build(family, **options)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += torch.randn_like(parameter) * 0.1
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_folder(make_hf_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a folder written by `transformers`: config.json, model.safetensors, tokenizer.json."""

    def make(family: str = "bert", **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(f"hf-{family}")
        make_hf_model(family, **options).save_pretrained(folder)
        _save_tokenizer(family, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def sample_encoder_folder() -> Path:
    """Return the folder of the real all-MiniLM-L6-v2 encoder."""
    from octavo.data.sample import sample_encoder
    from octavo.errors import MissingExtraError

    try:
        return sample_encoder()
    except MissingExtraError as error:
        pytest.skip(str(error))


_OPENINGS = ("please", "can you", "i want to", "now", "quick", "hey")
_REQUESTS = {
    "weather": ("what is the weather", "is the weather good", "weather for two"),
    "music": ("play some music", "turn the music off", "music for the table"),
    "booking": ("book a table for two", "cancel the table", "book it"),
}


def _save_word_tokenizer(folder: Path) -> None:
    """One token a word: a trained vocabulary breaks ties by chance, and some are hard to learn from."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    texts = [*_OPENINGS, *(text for request in _REQUESTS.values() for text in request)]
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def _synthetic_rows(count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = list(_REQUESTS)[number % len(_REQUESTS)]
        opening = rng.choice(["", *_OPENINGS])
        ending = rng.choice(["", f"{rng.integers(10**6)}"])
        text = f"{opening} {rng.choice(_REQUESTS[label])} {ending}".strip()
        rows.append({"text": text, "label": label})
    return rows


@pytest.fixture(scope="session")
def tiny_task(make_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a fine-tuned tiny my-teacher/ and its train.jsonl, dev.jsonl and test.jsonl."""
    import json

    from octavo.distill.finetune import finetune
    from octavo.distill.trainer import Plan
    from octavo.encoder.folder import read_folder
    from octavo.progress import Silent
    from octavo.tasks.classify import Classify

    folder = tmp_path_factory.mktemp("tiny-task")
    for seed, (name, count) in enumerate({"train": 240, "dev": 90, "test": 300}.items()):
        lines = [json.dumps(row) for row in _synthetic_rows(count, seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    plan = Plan(epochs=8, learning_rate=3e-3, batch_size=16, seed=0)
    base = make_folder("bert", labels=2)
    _save_word_tokenizer(base)
    encoder = read_folder(base)
    train, dev = (folder / f"{name}.jsonl" for name in ("train", "dev"))
    made = finetune(encoder, Classify, train, dev, folder / "my-teacher", plan, 64, Silent())
    assert made.training.dev_scores[made.training.best_epoch] > 0.9
    return folder
