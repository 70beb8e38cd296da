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
def tiny_stack(make_model: Any, make_quantized: Any, make_folder: Any) -> dict[tuple[str, str], dict[str, bytes]]:
    """Return the files of a random model of each task in `fp32` and `int8`, but those that depend on where it goes."""
    from octavo.engines.graph import ModelGraph
    from octavo.engines.openvino import OpenVinoEngine
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.store.contents import Golden, content_bytes, input_json
    from octavo.tasks.registry import task_from_settings
    from octavo.text.tokenizer import Tokenizer

    folder = make_folder("bert")
    tokenizer = Tokenizer.from_folder(folder, max_length=16)
    made = {}
    for name, head in STACK.items():
        task = task_from_settings(name, SETTINGS[name], "test")
        items: list[Any] = [(text, TEXTS[:2]) for text in TEXTS] if name == "rank" else list(TEXTS)
        inputs = task.prepare(items)
        batch = tokenizer.encode(inputs)
        for precision in ("fp32", "int8"):
            model = make_model("bert", head) if precision == "fp32" else make_quantized("bert", head)
            graph = onnx_from_model(model).SerializeToString()
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
                "tokenizer.json": (folder / "tokenizer.json").read_bytes(),
            }
    return made


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
                    layers=2,
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
