"""The encoders that are run: a Hugging Face folder for the peers and our INT8 graphs, written once, read by all cells.

    python -m bench.engines.models NAME FOLDER

All carry a classifying head on the first token, its weights drawn; speed knows no difference. Only MiniLM-L6 is real.
Imports torch where a model is made, not where one is read.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines.traces import TRACES, Words, texts_of, words_from_texts
from octavo.data.sample import sample_encoder, sample_queries
from octavo.encoder.config import EncoderConfig, config_from_hf
from octavo.engines.graph import ModelGraph
from octavo.tasks.base import Head, Reads
from octavo.text.batch import TokenBatch
from octavo.text.tokenizer import Tokenizer
from octavo.types import FloatArray, IntArray

LABELS = 33
MAX_LENGTH = 512
_CALIBRATION_TEXTS = 300  # what NNCF takes by default
_CHECKED_TEXTS = 64
_SEED = 0


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of an encoder with random weights; its feed-forward layers are four times as wide."""

    layers: int
    hidden: int
    heads: int


# None: the packaged MiniLM-L6, 6 layers of 384.
MODELS: dict[str, Size | None] = {
    "minilm-l6": None,
    "3x384": Size(3, 384, 12),
    "12x384": Size(12, 384, 12),
    "12x768": Size(12, 768, 12),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as it lies on disk.

    Attributes:
        name: in `MODELS`.
        folder: of the Hugging Face model; peers keep what they convert beside it, in `folder.parent`.
        config: of the encoder.
        tokenizer: from text to tokens, the same for everyone.
        words: what texts are made of.
    """

    name: str
    folder: Path
    config: EncoderConfig
    tokenizer: Tokenizer
    words: Words

    def graph(self, file: str) -> ModelGraph:
        """Return a canonical graph, `int8.onnx` or `int8-per-token.onnx`, with its twin where it has one."""
        graphs = {"canonical": (self.folder.parent / file).read_bytes()}
        twin = self.folder.parent / file.replace(".onnx", "-u8.onnx")
        if twin.is_file():
            graphs["u8"] = twin.read_bytes()
        return ModelGraph("int8", graphs, self.config.positions, MAX_LENGTH, None)

    def calibration(self) -> TokenBatch:
        """Return what peers calibrate on: texts of the short and of the medium trace."""
        half = _CALIBRATION_TEXTS // 2
        texts = [
            *texts_of(TRACES["short"], half, self.words, _SEED),
            *texts_of(TRACES["medium"], half, self.words, _SEED),
        ]
        return self.tokenizer.encode(texts)

    @property
    def checked(self) -> TokenBatch:
        """The batch on which every contender must agree with the float model."""
        return self.tokenizer.encode(texts_of(TRACES["short"], _CHECKED_TEXTS, self.words, _SEED + 1))

    @property
    def reference(self) -> FloatArray:
        """The float model's logits for `checked`, (batch, labels)."""
        return np.asarray(np.load(self.folder.parent / "reference.npy", allow_pickle=False), np.float32)


def int8_gop(config: EncoderConfig, lengths: IntArray) -> float:
    """Return the operations of the quantized linear layers on real tokens, in billions: the useful work.

    The last layer needs all tokens for K and V alone. Attention, LayerNorm and embeddings cost time and count nothing.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = 4 * hidden * hidden + 2 * hidden * inner  # multiply-adds a token
    last = 2 * hidden * hidden
    tokens, texts = int(lengths.sum()), len(lengths)
    multiply_adds = tokens * ((config.layers - 1) * layer + last) + texts * (layer - last)
    return 2 * multiply_adds / 1e9


def read_subject(name: str, folder: Path) -> Subject:
    """Read what `write_subject` wrote. Needs no torch."""
    return subject_from_model(name, folder / "model")


def subject_from_model(name: str, model: Path) -> Subject:
    """Return what peers convert, out of any Hugging Face folder of a classifier. Needs no torch."""
    config = config_from_hf(json.loads((model / "config.json").read_text("utf-8")), str(model / "config.json"))
    tokenizer = Tokenizer.from_folder(model, MAX_LENGTH)
    return Subject(name, model, config, tokenizer, words_from_texts(_sample_texts(), tokenizer.encode))


def write_subject(name: str, folder: Path) -> Subject:
    """Write a model's folder, its INT8 graphs of both schemes, and the float model's answers to compare with."""
    from octavo.encoder.folder import model_from_folder, read_folder

    hf_model = _hf_model(MODELS[name])
    hf_model.save_pretrained(folder / "model")
    shutil.copyfile(sample_encoder() / "tokenizer.json", folder / "model" / "tokenizer.json")
    subject = read_subject(name, folder)
    model = model_from_folder(read_folder(subject.folder), Head(Reads.FIRST, LABELS, dense=True))
    _write_graphs(model, subject, folder)
    np.save(folder / "reference.npy", np.concatenate(list(_logits(hf_model, subject.checked))))
    return subject


def _sample_texts() -> list[str]:
    return sample_queries().unlabelled.texts


def _hf_model(size: Size | None) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(_SEED)
    if size is None:
        return BertForSequenceClassification.from_pretrained(sample_encoder(), num_labels=LABELS).float().eval()
    config = BertConfig(
        num_hidden_layers=size.layers,
        hidden_size=size.hidden,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        num_labels=LABELS,
        position_embedding_type="absolute",  # CTranslate2's converter asks for it, transformers 5 leaves it out
    )
    return BertForSequenceClassification(config).eval()


def _write_graphs(model: Any, subject: Subject, folder: Path) -> None:
    from octavo.encoder.running import tensors_from_layout
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.export.variants import u8_twin
    from octavo.quantize.placement import amax_by_layer, calibrate, quantize
    from octavo.quantize.smoothing import smoothing_factors
    from octavo.text.layout import layout_from_batch
    from octavo.types import Observer

    batches = [
        tensors_from_layout(layout_from_batch(part, subject.config.positions))
        for part in subject.calibration().split(64)
    ]
    factors = smoothing_factors(model, batches, 0.5)
    amax = amax_by_layer(calibrate(model, batches, factors), Observer.PERCENTILE)
    for file, limits in (("int8.onnx", amax), ("int8-per-token.onnx", None)):
        quantized = copy.deepcopy(model)
        quantize(quantized, limits, factors)
        graph = onnx_from_model(quantized)
        (folder / file).write_bytes(graph.SerializeToString())
        if limits is not None:
            (folder / file.replace(".onnx", "-u8.onnx")).write_bytes(u8_twin(graph).SerializeToString())


def _logits(hf_model: Any, batch: TokenBatch) -> Iterator[FloatArray]:
    """Yield the float model's answer to each sequence alone, (1, labels): nothing padded can be wrong."""
    import torch

    with torch.inference_mode():
        for one in batch.split(1):
            yield hf_model(input_ids=torch.from_numpy(one.ids[None])).logits.float().numpy()


if __name__ == "__main__":
    write_subject(sys.argv[1], Path(sys.argv[2]))
