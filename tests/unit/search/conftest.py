"""What the tests of search share: documents, an embedder without a model, and a store with a tiny stack."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.certify.certificate import Certificate, Hashes, certificate_json
from octavo.search.build import Built, Change, build_index
from octavo.search.documents import Document
from octavo.search.lineage import Lineage
from octavo.store.publish import new_version
from octavo.tasks.embed_split import NDCG_ACROSS

WIDTH = 16
STACK = {"embed": "mean", "rank": "pairs", "tag": "words", "classify": "classify"}  # model and task → kind of head
SETTINGS: dict[str, dict[str, Any]] = {
    "embed": {"pooling": "mean", "normalize": True, "prompts": {}, "similarity": "cosine", "dimensions": 32},
    "rank": {"activation": "sigmoid"},
    "tag": {"tags": ["O", "B-thing", "I-thing", "B-time", "I-time"], "intents": []},
    "classify": {"labels": [f"label {i}" for i in range(5)]},
}
TEXTS = ["book a table", "what is the weather", "cancel the order", "play some music", "turn it off", "book"]


def lineage(**changes: Any) -> Lineage:
    """Return the lineage of an embedder that does not exist."""
    known = {
        "model": "embed",
        "version": "1",
        "release_sha256": "a" * 64,
        "engine_id": "openvino-1.0/fp32",
        "precision": "fp32",
        "similarity": "cosine",
        "dimensions": WIDTH,
    }
    return Lineage(**{**known, **changes})


class HashedWords:
    """An embedder without a model: a text's vector is the sum of fixed random ones, one for each of its words."""

    def __init__(self, **changes: Any) -> None:
        self.lineage = lineage(**changes)
        self.asked: list[str] = []

    def vectors(self, texts: Iterable[str]) -> Any:
        texts = list(texts)
        self.asked += texts
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Any:
        vector = np.full(self.lineage.dimensions, 1e-3, np.float32)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
            vector += np.random.default_rng(seed).standard_normal(len(vector)).astype(np.float32)
        return vector


@pytest.fixture
def embedder() -> HashedWords:
    return HashedWords()


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Write documents, given as texts by id or as `Document`s, as JSON lines."""

    def write(documents: Any, name: str = "corpus.jsonl") -> Path:
        if isinstance(documents, dict):
            documents = [Document(key, "", text) for key, text in documents.items()]
        lines = [json.dumps({"_id": one.id, "title": one.title, "text": one.text, **one.fields}) for one in documents]
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
        return path

    return write


@pytest.fixture
def build(tmp_path: Path, write_corpus: Callable[..., Path]) -> Callable[..., Built]:
    """Index documents, given as for `write_corpus`, into the folder `index`."""

    def run(documents: Any, *, folder: Path | None = None, embedder: Any = None, **change: Any) -> Built:
        corpus = None if documents is None else write_corpus(documents)
        return build_index(folder or tmp_path / "index", Change(corpus, **change), embedder or HashedWords())

    return run


@pytest.fixture(scope="session")
def tiny_stack(make_model: Any) -> dict[tuple[str, str], dict[str, bytes]]:
    """Return the files of a random model of each task in `fp32` and `int8`, but those that depend on where it goes.

    What is called `int8` here is the same graph with weights of 255 levels: another release, as good as quickly made.
    """
    from octavo.engines.graph import ModelGraph
    from octavo.engines.openvino import OpenVinoEngine
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.store.contents import Golden, content_bytes, input_json
    from octavo.tasks.registry import task_from_settings
    from octavo.text.tokenizer import Tokenizer

    written = _tokenizer_json()
    tokenizer = Tokenizer.from_bytes(written, max_length=16, source="test")
    made = {}
    for name, head in STACK.items():
        task = task_from_settings(name, SETTINGS[name], "test")
        items: list[Any] = [(text, TEXTS[:2]) for text in TEXTS] if name == "rank" else list(TEXTS)
        inputs = task.prepare(items)
        batch = tokenizer.encode(inputs)
        model = make_model("bert", head, layers=1)
        proto = onnx_from_model(model)
        for precision in ("fp32", "int8"):
            graph = (proto if precision == "fp32" else _rounded(proto)).SerializeToString()
            engine = OpenVinoEngine(
                ModelGraph(precision, {"canonical": graph}, model.config.positions, 16, None), threads=1
            )
            golden = Golden(
                inputs=[input_json(one) for one in inputs],
                ids=[ids.tolist() for ids in np.split(batch.ids, batch.offsets[1:-1])],
                outputs=engine.run(batch).tolist(),
                tolerance=1.0,
            )
            engine.close()
            made[name, precision] = {
                "model.onnx": graph,
                "golden.json": content_bytes(golden),
                "tokenizer.json": written,
            }
    return made


def _rounded(proto: Any) -> Any:
    """Return a graph whose matrices have 255 levels."""
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for weight in made.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim == 2 and values.dtype == np.float32:
            scale = np.abs(values).max() / 127
            weight.CopyFrom(numpy_helper.from_array((values / scale).round() * scale, weight.name))
    return made


def _tokenizer_json() -> bytes:
    """Return a tokenizer of one token a word; those that are not in `TEXTS` are all the same to it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return str(tokenizer.to_str()).encode()


@pytest.fixture
def publish_stack(
    tiny_stack: dict[tuple[str, str], dict[str, bytes]],
    make_certificate: Callable[..., Certificate],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Publish a store of `models`: of each, version 1 is FP32, version 2 INT8 and current. Return the store.

    `covers` says whether the embedder's certificate is also for queries among the teacher's documents.
    """
    from octavo.store.contents import ReleaseConfig, content_bytes

    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))

    def publish(models: Iterable[str] = STACK, *, covers: bool = True, store: Path | None = None) -> Path:
        store = store or tmp_path / "store"
        for name in models:
            for version, precision in enumerate(("fp32", "int8"), 1):
                files = tiny_stack[name, precision]
                config = ReleaseConfig(
                    task=name,
                    settings=SETTINGS[name],
                    precision=precision,
                    backend="openvino",
                    max_length=16,
                    position_offset=0,
                    segment_stride=512,
                    family="bert",
                    hidden_size=32,
                    layers=1,
                    heads=4,
                    shapes=[],
                )
                sha256 = hashlib.sha256(files["model.onnx"]).hexdigest()
                certificate = _certificate(make_certificate, name, str(version), precision, sha256, covers)
                with new_version(store, name) as draft:
                    for file, content in files.items():
                        draft.write(file, content)
                    draft.write("config.json", content_bytes(config))
                    draft.write("certificate.json", certificate_json(certificate))
                    draft.commit(
                        task=name,
                        rung=precision,
                        variants={"canonical": "model.onnx"},
                        teacher="1" if precision == "int8" else None,
                        make_current=precision == "int8",
                    )
        return store

    return publish


def _certificate(
    make: Callable[..., Certificate], task: str, version: str, precision: str, sha256: str, covers: bool
) -> Certificate:
    """Return a pass; of an embedder that covers it, with the second measure that says so."""
    import msgspec

    made = make(
        metric="ndcg@10",
        margin=0.9,
        model=task,
        version=version,
        task=task,
        rung=precision,
        engine_id=f"openvino-1.0/{precision}",
        sha256=Hashes(sha256, "b" * 64, sha256),
    )
    if task != "embed" or not covers:
        return made
    across = msgspec.structs.replace(made.measures[0], name=NDCG_ACROSS)
    return msgspec.structs.replace(made, measures=[*made.measures, across])
