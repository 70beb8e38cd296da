"""BM25 over documents, and the documents themselves for display. All of tantivy is here.

A query is words and nothing else: terms are looked up one by one, and no query language is parsed. tantivy's parser
would take `-`, `:` and brackets as orders, and 3,000 opening brackets overflow its stack and end the process, also
with `parse_query_lenient`. Knows no vectors.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tantivy
from tantivy import FieldType, Occur, Query

from octavo.errors import InputError, ReleaseError
from octavo.search.analysis import Marker, analyzer, spaced_document, spaced_query
from octavo.search.documents import Document
from octavo.types import FloatArray, IntArray

# What tantivy makes in its folder while it reads and writes: empty files, no part of an index.
LOCK_FILES = (".tantivy-meta.lock", ".tantivy-writer.lock")

_ANALYZER = "octavo"
_MOST_TERMS = 64  # distinct ones of a query; what follows them is not looked up
_MOST_CHARACTERS = 4096
_HEAP_BYTES = 256 << 20
_LAST = 2**63 - 1
_COMMON, _FEW = 0.2, 50  # a term is common that a fifth of the documents have, of an index that is not tiny


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found, best first: numbers of documents and their scores, both (hits,)."""

    numbers: IntArray
    scores: FloatArray

    @classmethod
    def none(cls) -> Hits:
        """Return no hits."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))


class Lexical:
    """A BM25 index that is open for reading, as it was then. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`. Raises ReleaseError where there is none that this version reads."""
        try:
            self._index = tantivy.Index.open(str(folder))
            self._index.register_tokenizer(_ANALYZER, analyzer())
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise ReleaseError(
                f"{folder}: this BM25 index cannot be opened ({error}). Index the corpus again."
            ) from error
        self._schema = self._index.schema
        self._analyzer = analyzer()
        self._marker = Marker(self._analyzer)

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def terms(self, query: str) -> list[str]:
        """Return the distinct terms that are looked up for a query, in order; at most 64."""
        found = self._analyzer.analyze(spaced_query(query[:_MOST_CHARACTERS]))
        return list(dict.fromkeys(found))[:_MOST_TERMS]

    def marked(self, texts: Sequence[str], query: str) -> list[list[tuple[int, int]]]:
        """Return where each text has words of a query, (start, end) in characters; not words that most texts have."""
        terms = self._telling(self.terms(query))
        return [self._marker.spans(text, terms) for text in texts]

    def search(self, query: str, k: int) -> Hits:
        """Return the `k` documents of the highest BM25, ties by number; none where no term occurs."""
        terms = self.terms(query)
        if not terms or k < 1:
            return Hits.none()
        either = [(Occur.Should, Query.term_query(self._schema, "terms", term, "freq")) for term in terms]
        found = self._searcher.search(Query.boolean_query(either), k, count=False).hits
        scores = np.array([score for score, _ in found], np.float32)
        numbers = self._numbers([address for _, address in found])
        order = np.lexsort((numbers, -scores))
        return Hits(numbers[order], scores[order])

    def documents(self, numbers: Sequence[int]) -> dict[int, Document]:
        """Return documents by their numbers; those that are not there are left out."""
        addresses = self._addresses("number", [int(number) for number in numbers])
        found = self._numbers(addresses).tolist()
        return {number: self._document(address) for number, address in zip(found, addresses, strict=True)}

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of documents by their ids; ids that are not there are left out."""
        addresses = self._addresses("id", ids)
        found = self._numbers(addresses).tolist()
        names = [str(self._searcher.doc(address).get_first("id")) for address in addresses]
        return dict(zip(names, found, strict=True))

    def _telling(self, terms: Sequence[str]) -> set[str]:
        """Return the terms that tell documents apart; all of them where none does."""
        most = _COMMON * max(len(self), _FEW)
        return {term for term in terms if self._searcher.doc_freq("terms", term) <= most} or set(terms)

    def _addresses(self, field: str, values: Sequence[Any]) -> list[Any]:
        if not values:
            return []
        query = Query.term_set_query(self._schema, field, list(values))
        return [address for _, address in self._searcher.search(query, len(values), count=False).hits]

    def _numbers(self, addresses: list[Any]) -> IntArray:
        if not addresses:
            return np.empty(0, np.int64)
        return np.array(self._searcher.fast_field_values("number", addresses), np.int64)

    def _document(self, address: Any) -> Document:
        stored = self._searcher.doc(address)
        title, text, fields = msgspec.json.decode(stored.get_first("document"), type=tuple[str, str, dict[str, str]])
        return Document(str(stored.get_first("id")), title, text, fields)


class LexicalWriter:
    """A BM25 index that is being written. What was not committed is lost when the process ends. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder` to write, or make one. Raises InputError where it cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._index = tantivy.Index(_schema(), path=str(folder))
            self._index.register_tokenizer(_ANALYZER, analyzer())
            # One thread: segments, and so the order of equal scores, then depend on the documents alone.
            self._writer = self._index.writer(_HEAP_BYTES, 1)
        except (ValueError, OSError) as error:
            raise InputError(f"{folder}: cannot be written ({error}).") from error
        self._schema = self._index.schema

    def add(self, number: int, document: Document) -> None:
        """Add a document under a number of its own; another one of the same id is replaced."""
        self._writer.delete_documents_by_term("id", document.id)
        made = tantivy.Document()
        made.add_unsigned("number", number)
        made.add_text("id", document.id)
        made.add_text("terms", spaced_document(document.content))
        made.add_bytes("document", msgspec.json.encode((document.title, document.text, document.fields)))
        self._writer.add_document(made)

    def delete(self, ids: Iterable[str]) -> None:
        """Delete documents by id; those that are not there are passed over."""
        for name in ids:
            self._writer.delete_documents_by_term("id", name)

    def delete_from(self, number: int) -> None:
        """Delete all documents from a number on: what an interrupted run added beyond what it recorded."""
        beyond = Query.range_query(self._schema, "number", FieldType.Unsigned, number, _LAST)
        self._writer.delete_documents_by_query(beyond)

    def commit(self) -> None:
        """Flush to the disk. Raises OSError where that is full."""
        try:
            self._writer.commit()
        except ValueError as error:  # as tantivy tells of everything
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Commit, and wait for segments to be merged; the writer is used up."""
        self.commit()
        self._writer.wait_merging_threads()
        # Merged segments leave their parts behind; a writer that starts drops what nothing refers to.
        cleaner = self._index.writer(_HEAP_BYTES, 1)
        cleaner.garbage_collect_files()
        cleaner.wait_merging_threads()


def link_lexical(source: Path, target: Path) -> None:
    """Let `target` begin as `source` is. Segments are shared, as tantivy never changes one; lists of them are not."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.name in LOCK_FILES:
            continue
        if file.suffix == ".json":
            shutil.copyfile(file, target / file.name)
            continue
        try:
            os.link(file, target / file.name)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, target / file.name)


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("number", indexed=True, fast=True)
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("terms", tokenizer_name=_ANALYZER, index_option="freq")
    builder.add_bytes_field("document", stored=True)
    return builder.build()
