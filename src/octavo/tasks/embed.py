"""Task `embed`: a vector per text, so that queries and the documents that answer them are near each other.

Knows pooling, prompts, similarity and what a folder of sentence-transformers says of them. Scoring is in
`embed_split`; losses and models are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import keys_of, object_from_text, text_under
from octavo.data.retrieval import PAIR_FORM, read_retrieval
from octavo.errors import InputError, ModelError
from octavo.tasks import sentence_transformers
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads, Task
from octavo.tasks.embed_split import EmbedSplit
from octavo.types import FloatArray, Input, Json, Outputs

QUERY, DOCUMENT = "query", "document"
COSINE, DOT = "cosine", "dot"

_POOLINGS = (Reads.FIRST, Reads.LAST, Reads.MEAN)
_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_TINY = 1e-12
_LOG_FORM = '{"query": "..."}, {"document": "..."}, or both'


@dataclass(frozen=True, slots=True)
class Document:
    """A text to embed as a document; a plain string is embedded as a query."""

    text: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """The answer for one text: its vector."""

    vector: list[float]

    def line(self) -> str:
        """Say it in a line: the first numbers, and how many there are."""
        start = ", ".join(f"{number:.4f}" for number in self.vector[:4])
        more = ", …" if len(self.vector) > 4 else ""
        return f"[{start}{more}] ({len(self.vector)} numbers)"


@dataclass(frozen=True, slots=True)
class Embed(Task):
    """An embedding of queries and documents into one space.

    Attributes:
        pooling: which hidden states a vector is made of: the first, the last, or the mean of all.
        normalize: vectors have length 1.
        prompts: what goes before each `query` and each `document`, as pairs; left out where nothing does.
        similarity: `cosine` or `dot`, by which documents are ranked.
        dimensions: numbers per vector; 0 until the encoder is known.
    """

    pooling: Reads = Reads.MEAN
    normalize: bool = True
    prompts: tuple[tuple[str, str], ...] = ()
    similarity: str = COSINE
    dimensions: int = 0

    name: ClassVar[str] = "embed"
    what: ClassVar[str] = "places queries near the documents that answer them"
    row_format: ClassVar[str] = f"{PAIR_FORM}; or the qrels file (.tsv) of a BEIR folder"

    def __post_init__(self) -> None:
        if self.pooling not in _POOLINGS:
            raise ModelError(f"The pooling is '{self.pooling}' and must be one of: {', '.join(_POOLINGS)}.")
        if self.similarity not in (COSINE, DOT):
            raise ModelError(f"The similarity is '{self.similarity}' and must be {COSINE} or {DOT}.")
        if unknown := {name for name, _ in self.prompts} - {QUERY, DOCUMENT}:
            raise ModelError(f"There is a prompt for '{min(unknown)}'; prompts are for {QUERY} and {DOCUMENT}.")

    @classmethod
    def claims(cls, facts: FolderFacts) -> bool:
        """Return whether the folder is that of a `SentenceTransformer` with a pooling."""
        if sentence_transformers.is_cross_encoder(facts):
            return False
        kinds = sentence_transformers.module_kinds(facts)
        return "Pooling" in kinds and sentence_transformers.model_type(facts) in (None, "SentenceTransformer")

    @classmethod
    def from_folder(cls, facts: FolderFacts) -> Self:
        """Return what a sentence-transformers folder says; a plain encoder's: mean pooling, length 1, no prompts.

        Raises:
            ModelError: a module, a pooling, a similarity or a casing that Octavo does not do.
        """
        dimensions = _dimensions(facts)
        if sentence_transformers.MODULES not in facts.files:
            return cls(dimensions=dimensions)
        kinds = sentence_transformers.module_kinds(facts)
        if kinds not in _MODULES:
            listed = ", ".join(kind or "?" for kind in kinds) or "none"
            raise ModelError(
                f"{facts.source}: its modules are {listed}. Octavo does Transformer and Pooling, then Normalize or not."
            )
        sentence_transformers.check_casing(facts)
        return cls(
            pooling=sentence_transformers.pooling_from_facts(facts),
            normalize="Normalize" in kinds,
            prompts=tuple(sentence_transformers.prompts_from_facts(facts).items()),
            similarity=sentence_transformers.similarity_from_facts(facts),
            dimensions=dimensions,
        )

    @classmethod
    def from_rows(cls, path: Path) -> Self:
        """Return mean pooling, length 1 and no prompts: rows call for nothing in particular."""
        return cls()

    @classmethod
    def for_training(cls, facts: FolderFacts, path: Path) -> Self:
        """Return what the encoder's folder says already; training does not change pooling and prompts."""
        return cls.from_folder(facts)

    @classmethod
    def from_settings(cls, settings: Json) -> Self:
        """Return the task out of a release's `config.json`. Raises ModelError for unfit settings."""
        fits = (
            settings.get("pooling") in list(_POOLINGS)
            and isinstance(settings.get("normalize"), bool)
            and _is_prompts(settings.get("prompts"))
            and settings.get("similarity") in [COSINE, DOT]
            and type(settings.get("dimensions")) is int
        )
        if not fits:
            raise ModelError(f"The settings of task '{cls.name}' are {shown(repr(settings), 200)}; something is amiss.")
        return cls(
            pooling=Reads(settings["pooling"]),
            normalize=settings["normalize"],
            prompts=tuple(settings["prompts"].items()),
            similarity=settings["similarity"],
            dimensions=settings["dimensions"],
        )

    def settings(self) -> Json:
        """Return what a release keeps."""
        return {
            "pooling": str(self.pooling),
            "normalize": self.normalize,
            "prompts": dict(self.prompts),
            "similarity": self.similarity,
            "dimensions": self.dimensions,
        }

    def folder_facts(self) -> FolderFacts:
        """Return the files that make an encoder's folder one of sentence-transformers.

        Raises:
            ModelError: `dimensions` is not known yet, which the pooling's file has to tell.
        """
        if not self.dimensions:
            raise ModelError("The folder of an embedder says how long its vectors are; give the task its dimensions.")
        files = sentence_transformers.embedder_files(
            self.pooling, self.dimensions, self.normalize, dict(self.prompts), self.similarity
        )
        return FolderFacts({}, files)

    @property
    def head(self) -> Head:
        """No output layer: the pooled hidden state itself."""
        return Head(self.pooling, normalize=self.normalize)

    def prompt(self, name: str) -> str:
        """Return what goes before a `query` or a `document`."""
        return dict(self.prompts).get(name, "")

    def read(self, path: Path, purpose: Purpose) -> EmbedSplit:
        """Read retrieval data; training takes judged documents only, development some others, a test the corpus."""
        prompts = self.prompt(QUERY), self.prompt(DOCUMENT)
        return EmbedSplit.from_retrieval(read_retrieval(path), purpose, prompts, self.similarity)

    def inputs_from_log(self, record: str | Json, source: str) -> list[Input]:
        """Return a query's input, a document's, or both; a plain line is a query, with its document after a tab."""
        if isinstance(record, str):
            query, tab, document = record.partition("\t")
            record = {QUERY: query, DOCUMENT: document} if tab else {QUERY: record}
        known = {"text": QUERY, QUERY: QUERY, DOCUMENT: DOCUMENT}
        keys = [key for key in known if key in record]
        if not keys:
            raise InputError(
                f'{source}: there is neither "{QUERY}" nor "{DOCUMENT}" (keys found: {keys_of(record)}). '
                f"Write {_LOG_FORM}."
            )
        texts = [(known[key], text_under(record, key, source, may_be_empty=True).strip()) for key in keys]
        return [self.prompt(name) + text for name, text in texts if text]

    def item_from_line(self, line: str, where: str = "the line") -> str | Document:
        """Return the query that a line is, or what its JSON object says."""
        if not line.lstrip().startswith("{"):
            return line
        return _item_from_object(object_from_text(line, where, _LOG_FORM))

    def prepare(self, items: Sequence[Any]) -> list[Input]:
        """Return each item's text after its prompt; strings are queries, `Document`s are documents."""
        return [self._input(item) for item in items]

    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Any]:
        """Return each item's vector as an `Embedding`."""
        return [Embedding(vector) for vector in outputs.values.tolist()]

    def likeness(self, old: Outputs, new: Outputs) -> tuple[FloatArray, FloatArray]:
        """Return the cosine between the vectors of each text, from 0 up, and its distance as `EmbedSplit` has it."""
        lengths = np.linalg.norm(old.values, axis=1), np.linalg.norm(new.values, axis=1)  # (inputs,)
        cosine = (old.values * new.values).sum(axis=1) / np.maximum(lengths[0] * lengths[1], _TINY)
        apart = np.square(old.values - new.values).sum(axis=1) / np.maximum(2 * np.square(lengths[0]), _TINY)
        drift = apart if self.similarity == DOT else 1 - cosine
        known = np.isfinite(cosine) & np.isfinite(drift)
        agreement = np.where(known, np.clip(cosine, 0, 1), 0)
        return agreement.astype(np.float32), np.where(known, np.clip(drift, 0, 1), 1).astype(np.float32)

    def _input(self, item: Any) -> str:
        if isinstance(item, dict):
            item = _item_from_object(item)
        name, text = (DOCUMENT, item.text) if isinstance(item, Document) else (QUERY, item)
        if not isinstance(text, str):
            raise InputError(
                f"{shown(repr(item))} is no text. Give a string for a query, Document(text) for a document."
            )
        return self.prompt(name) + well_formed(text)


def _item_from_object(content: Json) -> str | Document:
    keys = [key for key in (QUERY, "text", DOCUMENT) if key in content]
    if len(keys) != 1:
        raise InputError(f'Give either "{QUERY}" or "{DOCUMENT}" (keys found: {keys_of(content)}).')
    text = text_under(content, keys[0], "the object", may_be_empty=True)
    return Document(text) if keys[0] == DOCUMENT else text


def _dimensions(facts: FolderFacts) -> int:
    size = facts.config.get("hidden_size", facts.config.get("dim"))  # DistilBERT says dim
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ModelError(f"{facts.source}/config.json: hidden_size is {size!r}; it must be a whole number from 1 on.")
    return size


def _is_prompts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        name in (QUERY, DOCUMENT) and isinstance(text, str) for name, text in value.items()
    )
