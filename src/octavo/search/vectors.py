"""Nearest documents by their vectors. All of faiss is here; knows no text and no model.

Up to 5,000 vectors are compared one by one; more lie in a graph (HNSW), and above 500,000 their numbers are rounded to
a byte each (docs/search.md says why). A document's number and its place in the index are two things: places are used up
in order, and a place whose document was deleted or replaced holds no number any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np

from octavo.errors import ReleaseError
from octavo.progress import Step
from octavo.search.lexical import Hits
from octavo.types import FloatArray, IntArray

NO_DOCUMENT = -1

faiss: Any = _faiss  # its stubs know neither the keywords nor the arrays that its Python side takes

# The settings of MLPerf's retrieval benchmark.
_LINKS, _EF_CONSTRUCTION, _EF_SEARCH = 32, 200, 100
_MOST_FLAT, _MOST_WHOLE = 5_000, 500_000
_MOST_DEAD = 0.25  # of the places, before they are left out by building anew
_TRAINING = 65_536  # vectors that say how bytes are to be spread
_BLOCK = 8192
_TINY = np.float32(1e-12)


class Kind(StrEnum):
    """How vectors are kept."""

    FLAT = "flat"
    HNSW = "hnsw"
    HNSW_SQ8 = "hnsw-sq8"


def kind_for(documents: int) -> Kind:
    """Return how so many vectors are kept."""
    if documents <= _MOST_FLAT:
        return Kind.FLAT
    return Kind.HNSW if documents <= _MOST_WHOLE else Kind.HNSW_SQ8


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Return vectors of length 1, of which the dot product is the cosine, (vectors, width)."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY), np.float32)


class Vectors:
    """Vectors that are open to be searched. Thread-safe."""

    def __init__(self, index: Any, numbers: IntArray) -> None:
        """Take a faiss index and the number at each place of it, (places,)."""
        if index.ntotal != len(numbers):
            raise ReleaseError(f"There are {index.ntotal} vectors for {len(numbers)} places. Index the corpus again.")
        self._index = index
        self._numbers = numbers
        self._documents = int((numbers != NO_DOCUMENT).sum())
        self._parameters = self._search_parameters()

    @classmethod
    def read(cls, file: Path, numbers: Path) -> Vectors:
        """Read what `write` wrote. Raises ReleaseError where it is no such thing."""
        try:
            return cls(faiss.read_index(str(file)), np.fromfile(numbers, "<i8"))
        except (RuntimeError, OSError) as error:
            raise ReleaseError(f"{file}: these vectors cannot be read. Index the corpus again.") from error

    @property
    def kind(self) -> Kind:
        """How they are kept."""
        return _kind_of(self._index)

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return self._documents

    def nearest(self, queries: FloatArray, k: int) -> list[Hits]:
        """Return the `k` documents of the highest dot product with each query, (queries, width); ties by number."""
        k = min(k, len(self))
        if k < 1:
            return [Hits.none() for _ in queries]
        asked = np.ascontiguousarray(queries, np.float32)
        scores, places = self._index.search(asked, k, params=self._parameters)  # (queries, k) both
        return [self._hits(*found) for found in zip(scores, places, strict=True)]

    def _hits(self, scores: FloatArray, places: IntArray) -> Hits:
        known = places >= 0  # a graph may lead to fewer than were asked for
        numbers, scores = self._numbers[places[known]], scores[known]
        order = np.lexsort((numbers, -scores))
        return Hits(numbers[order], scores[order])

    def _search_parameters(self) -> Any:
        alive = self._numbers != NO_DOCUMENT
        selector = None if alive.all() else faiss.IDSelectorBitmap(np.packbits(alive, bitorder="little"))
        if self.kind is Kind.FLAT:
            return None if selector is None else faiss.SearchParameters(sel=selector)
        return faiss.SearchParametersHNSW(sel=selector, efSearch=_EF_SEARCH)


class VectorBuilder:
    """A faiss index that grows. Not thread-safe."""

    def __init__(self, index: Any, numbers: IntArray) -> None:
        self._index = index
        self._numbers = numbers

    @classmethod
    def starting(cls, width: int, documents: int, sample: FloatArray) -> VectorBuilder:
        """Begin an index for so many documents; `sample` shows how their vectors are spread, (vectors, width)."""
        return cls(_new_index(kind_for(documents), width, sample), np.empty(0, np.int64))

    @classmethod
    def going_on(cls, vectors: Vectors, dead: IntArray, documents: int) -> VectorBuilder:
        """Take over an index, less the documents of numbers `dead`, for so many documents in the end.

        It is added to as it is, unless another kind is due or too many places hold no document.
        """
        numbers = np.where(np.isin(vectors._numbers, dead), NO_DOCUMENT, vectors._numbers)
        alive = np.flatnonzero(numbers != NO_DOCUMENT)
        if vectors.kind is kind_for(documents) and len(alive) >= (1 - _MOST_DEAD) * len(numbers):
            return cls(vectors._index, numbers)
        sample = _vectors_at(vectors._index, alive[:: max(1, len(alive) // _TRAINING)])
        made = cls.starting(vectors.width, documents, sample)
        for first in range(0, len(alive), _BLOCK):
            places = alive[first : first + _BLOCK]
            made.add(_vectors_at(vectors._index, places), numbers[places])
        return made

    @classmethod
    def resumed(cls, file: Path, numbers: Path) -> VectorBuilder:
        """Go on from what `write` wrote; see `Vectors.read`."""
        read = Vectors.read(file, numbers)
        return cls(read._index, read._numbers)

    def count_from(self, number: int) -> int:
        """Return how many documents it holds whose number is this one or a later one."""
        return int((self._numbers >= number).sum())

    def add(self, vectors: FloatArray, numbers: IntArray) -> None:
        """Add vectors, (vectors, width), and the numbers of their documents."""
        self._index.add(np.ascontiguousarray(vectors, np.float32))
        self._numbers = np.concatenate([self._numbers, numbers])

    def add_all(self, vectors: FloatArray, first_number: int, step: Step) -> Iterable[None]:
        """Add vectors in blocks, numbered in order, and yield after each, so that the caller may write."""
        for first in range(0, len(vectors), _BLOCK):
            block = vectors[first : first + _BLOCK]
            self.add(block, first_number + first + np.arange(len(block)))
            step.advance(len(block))
            yield

    def write(self, file: Path, numbers: Path) -> None:
        """Write the index, and the number at each place. Raises OSError where the disk is full."""
        try:
            faiss.write_index(self._index, str(file))
        except RuntimeError as error:  # as faiss tells of everything
            raise OSError(str(error)) from error
        self._numbers.astype("<i8").tofile(numbers)


def _new_index(kind: Kind, width: int, sample: FloatArray) -> Any:
    metric = faiss.METRIC_INNER_PRODUCT
    if kind is Kind.FLAT:
        return faiss.IndexFlat(width, metric)
    if kind is Kind.HNSW:
        made = faiss.IndexHNSWFlat(width, _LINKS, metric)
    else:
        made = faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_8bit, _LINKS, metric)
        made.train(np.ascontiguousarray(sample[:: max(1, len(sample) // _TRAINING)], np.float32))
    made.hnsw.efConstruction = _EF_CONSTRUCTION
    return made


def _kind_of(index: Any) -> Kind:
    kinds = {faiss.IndexHNSWFlat: Kind.HNSW, faiss.IndexHNSWSQ: Kind.HNSW_SQ8}
    return next((kind for made, kind in kinds.items() if isinstance(index, made)), Kind.FLAT)


def _vectors_at(index: Any, places: IntArray) -> FloatArray:
    """Return the vectors at some places as the index keeps them, (places, width)."""
    return np.asarray(index.reconstruct_batch(places), np.float32)
