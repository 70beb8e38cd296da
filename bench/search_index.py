"""What an index of so many short documents takes: time of each step, the highest memory, the size, and a query's time.

    python bench/search_index.py --documents 1000000

Documents are made up, of 8 to 24 words by Zipf's law; vectors are random around as many centres as there are thousands
of documents, because vectors of real texts lie in clusters and a graph of plain noise is both slower and of no use. No
model takes part: embedding is as quick as the release is, and is measured elsewhere. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from octavo.progress import Silent
from octavo.search.build import Change, build_index
from octavo.search.index import Index, open_index
from octavo.search.lineage import Lineage
from octavo.types import FloatArray

WORDS, QUERIES, TOP = 200_000, 300, 10


class RandomVectors:
    """Vectors of no text: the document's number says which."""

    def __init__(self, width: int, documents: int) -> None:
        self.lineage = Lineage(
            model="random",
            version="1",
            release_sha256="0" * 64,
            engine_id="none",
            precision="fp32",
            similarity="cosine",
            dimensions=width,
        )
        self._width = width
        self._centres = np.random.default_rng(0).standard_normal((max(1, documents // 1000), width), np.float32)
        self._given = 0

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        rng = np.random.default_rng([1, self._given])
        self._given += len(texts)
        centres = self._centres[rng.integers(0, len(self._centres), len(texts))]
        return np.asarray(centres + rng.standard_normal(centres.shape, np.float32), np.float32)


class Steps(Silent):
    """Notes how long each step of a build took, in seconds."""

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Steps]:
        started = time.perf_counter()
        yield self
        self.took_s[label] = time.perf_counter() - started
        print(f"{label:40} {self.took_s[label]:9.1f} s  {peak_mb():9,.0f} MB")


def write_corpus(path: Path, documents: int) -> None:
    rng = np.random.default_rng(2)
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, documents, 10_000):
            lengths = rng.integers(8, 25, min(10_000, documents - first))
            words = (rng.zipf(1.2, int(lengths.sum())) % WORDS).tolist()
            at = 0
            for number, length in enumerate(lengths.tolist(), first):
                text = " ".join(f"w{word}" for word in words[at : at + length])
                at += length
                file.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def median_ms(run: Callable[[int], Any]) -> float:
    took = []
    for number in range(QUERIES):
        started = time.perf_counter()
        run(number)
        took.append(1e3 * (time.perf_counter() - started))
    return statistics.median(took)


def recall(index: Index, asked: FloatArray, embedder: RandomVectors, documents: int) -> float:
    """Return the share of the true nearest that is found, by comparing with every vector."""
    found = [set(hits.numbers.tolist()) for hits in index.nearest(asked, TOP)]
    asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    best_scores, best = np.full((len(asked), TOP), -2.0, np.float32), np.zeros((len(asked), TOP), np.int64)
    for first in range(0, documents, 512):
        some = embedder.vectors([""] * min(512, documents - first))
        scores = asked @ (some / np.linalg.norm(some, axis=1, keepdims=True)).T  # (queries, some)
        numbers = np.broadcast_to(np.arange(first, first + len(some)), scores.shape)
        joined = np.concatenate([best_scores, scores], axis=1)
        order = np.argsort(-joined, axis=1)[:, :TOP]
        best = np.take_along_axis(np.concatenate([best, numbers], axis=1), order, axis=1)
        best_scores = np.take_along_axis(joined, order, axis=1)
    return float(np.mean([len(one & set(row.tolist())) / TOP for one, row in zip(found, best, strict=True)]))


def measure(folder: Path, documents: int, width: int) -> dict[str, Any]:
    corpus, steps, embedder = folder / "corpus.jsonl", Steps(), RandomVectors(width, documents)
    write_corpus(corpus, documents)
    started = time.perf_counter()
    built = build_index(folder / "index", Change(corpus), embedder, progress=steps)
    build_s, build_mb, build_cpu_s = time.perf_counter() - started, peak_mb(), time.process_time()
    index = open_index(folder / "index", steps)
    rng = np.random.default_rng(3)
    queries = [" ".join(f"w{word}" for word in rng.zipf(1.2, 4) % WORDS) for _ in range(QUERIES)]
    asked = RandomVectors(width, documents).vectors([""] * QUERIES)
    return {
        "documents": documents,
        "width": width,
        "kind": str(built.manifest.kind),
        "corpus_mb": round(corpus.stat().st_size / 1e6),
        "index_mb": round(sum(entry.size_bytes for entry in built.manifest.files.values()) / 1e6),
        "build_s": round(build_s, 1),
        "build_cpu_s": round(build_cpu_s, 1),  # the corpus' making included
        "steps_s": {label: round(took, 1) for label, took in steps.took_s.items()},
        "build_peak_mb": round(build_mb),
        "bm25_ms": round(median_ms(lambda n: index.words(queries[n], 100)), 3),
        "vectors_ms": round(median_ms(lambda n: index.nearest(asked[n : n + 1], 100)), 3),
        "recall@10": round(recall(index, asked[:50] + 0.3, RandomVectors(width, documents), documents), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one unless given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        print(json.dumps(measure(Path(folder), args.documents, args.width)))


if __name__ == "__main__":
    main()
