"""Task `rank`: a relevance score per query and document, read together by a cross-encoder.

Knows the activation, requests and answers, and what a cross-encoder's folder says. Scoring is in `rank_split`;
losses and models are elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from octavo.data.candidates import LIST_FORM, PAIR_FORM, read_candidates
from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import keys_of, object_from_text
from octavo.data.retrieval import beginning
from octavo.errors import InputError, ModelError
from octavo.tasks import sentence_transformers
from octavo.tasks.base import FolderFacts, Head, Purpose, Reads, Task
from octavo.tasks.labels import claims_architecture
from octavo.tasks.probabilities import sigmoid
from octavo.tasks.rank_split import (
    IDENTITY,
    LONGEST_GROUP,
    SIGMOID,
    RankSplit,
    activated,
    split_from_candidates,
    top_of,
)
from octavo.tasks.ranking import overlap, ranked
from octavo.types import FloatArray, Input, Json, Outputs, Pair

_REQUEST_FORM = '{"query": "...", "documents": ["...", ...]}'
_LOG_FORM = f'{_REQUEST_FORM}, {{"query": "...", "document": "..."}}, or query and documents with tabs between'


@dataclass(frozen=True, slots=True)
class RankRequest:
    """A query, and the documents to put in order for it."""

    query: str
    documents: Sequence[str]


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A document of a request: its place there, its score, and its text."""

    index: int
    relevance_score: float
    document: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to one request: its documents, the most relevant first."""

    results: list[RankedDocument]

    def line(self) -> str:
        """Say it in a line: the best documents with their scores."""
        best = "  ".join(f"{one.relevance_score:.3f} {beginning(one.document)}" for one in self.results[:3])
        return best + (f"  (and {len(self.results) - 3} more)" if len(self.results) > 3 else "")


@dataclass(frozen=True, slots=True)
class Rank(Task):
    """Scores for pairs of query and document; the activation is what users see them through."""

    activation: str = SIGMOID

    name: ClassVar[str] = "rank"
    what: ClassVar[str] = "puts documents in order for a query"
    row_format: ClassVar[str] = f"{LIST_FORM} or {PAIR_FORM}"
    example: ClassVar[str] = '("a query", ["a document", "another one"])'

    def __post_init__(self) -> None:
        if self.activation not in (SIGMOID, IDENTITY):
            raise ModelError(f"The activation is '{self.activation}' and must be {SIGMOID} or {IDENTITY}.")

    @classmethod
    def claims(cls, facts: FolderFacts) -> bool:
        """Return whether the folder is a cross-encoder's, or a sequence classifier's, with exactly one label."""
        classifies = claims_architecture(facts.config, "ForSequenceClassification")
        return _labels(facts) == 1 and (classifies or sentence_transformers.is_cross_encoder(facts))

    @classmethod
    def from_folder(cls, facts: FolderFacts) -> Self:
        """Return what a cross-encoder's folder says; its activation is a sigmoid unless it names another.

        Raises:
            ModelError: other than one label, modules after the encoder, prompts, or another activation.
        """
        if (labels := _labels(facts)) != 1:
            raise ModelError(f"{facts.source}: a ranker has one label, and config.json says {labels}.")
        if (kinds := sentence_transformers.module_kinds(facts)) not in ([], ["Transformer"]):
            listed = ", ".join(kind or "?" for kind in kinds)
            raise ModelError(f"{facts.source}: its modules are {listed}. Octavo ranks with a Transformer alone.")
        if prompts := sentence_transformers.prompts_from_facts(facts):
            raise ModelError(f"{facts.source}: a ranker with prompts ({', '.join(prompts)}) is not supported.")
        sentence_transformers.check_casing(facts)
        return cls(sentence_transformers.activation_from_facts(facts))

    @classmethod
    def from_rows(cls, path: Path) -> Self:
        """Return a sigmoid: what training on grades makes scores for."""
        return cls()

    @classmethod
    def from_settings(cls, settings: Json) -> Self:
        """Return the task out of a release's `config.json`. Raises ModelError for unfit settings."""
        activation = settings.get("activation")
        if not isinstance(activation, str):
            raise ModelError(f"The settings of task '{cls.name}' name no activation: {shown(repr(settings), 200)}.")
        return cls(activation)

    def settings(self) -> Json:
        """Return what a release keeps."""
        return {"activation": self.activation}

    def folder_facts(self) -> FolderFacts:
        """Return the keys with which `CrossEncoder` of sentence-transformers loads the folder."""
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "num_labels": 1}
        return FolderFacts({**labels, **sentence_transformers.activation_config(self.activation)})

    @property
    def head(self) -> Head:
        """One score, off the first token."""
        return Head(Reads.FIRST, outputs=1, dense=True)

    def read(self, path: Path, purpose: Purpose) -> RankSplit:
        """Read lists of candidates, or pairs where each query has one only."""
        return split_from_candidates(read_candidates(path), purpose, self.activation)

    def inputs_from_log(self, record: str | Json, source: str) -> list[Input]:
        """Return the pairs of a query with its documents; of a long list, evenly spaced ones.

        Raises:
            InputError: a line without a document, or of another form.
        """
        if isinstance(record, str) and not record.strip():
            return []
        request = _request_from_line(record, source) if isinstance(record, str) else _request_from(record, source)
        every = math.ceil(len(request.documents) / LONGEST_GROUP)
        return [Pair(request.query, document) for document in request.documents[::every]]

    def item_from_line(self, line: str, where: str = "the line") -> RankRequest:
        """Return the request of a line: a JSON object, or a query and documents with tabs between."""
        if line.lstrip().startswith("{"):
            return _request_from(object_from_text(line, where, _LOG_FORM), where)
        return _request_from_line(line, where)

    def items_from_arguments(self, texts: Sequence[str]) -> list[tuple[str, Any]]:
        """Return one request, of a query and its documents, or one for each argument that is a request itself."""
        if len(texts) > 1 and not any("\t" in text or text.lstrip().startswith("{") for text in texts):
            return [(texts[0], RankRequest(texts[0], tuple(texts[1:])))]
        return [(text, self.item_from_line(text)) for text in texts]

    def prepare(self, items: Sequence[Any]) -> list[Input]:
        """Return the pairs of every request, in order: `RankRequest`s, pairs of query and documents, or objects."""
        return [
            Pair(request.query, document)
            for request in (_request_from(item, "the request") for item in items)
            for document in request.documents
        ]

    def decode(self, outputs: Outputs, items: Sequence[Any]) -> list[Any]:
        """Return each request's documents as a `Ranking`; of equal scores, the earlier document comes first."""
        rankings: list[Any] = []
        scores = activated(outputs.values, self.activation)[:, 0]  # (documents of all requests,)
        first = 0
        for request in (_request_from(item, "the request") for item in items):
            last = first + len(request.documents)
            rankings.append(_ranking(request, outputs.values[first:last, 0].tolist(), scores[first:last].tolist()))
            first = last
        return rankings

    def likeness(self, old: Outputs, new: Outputs) -> tuple[FloatArray, FloatArray]:
        """Return the share of the old first documents that the new ones keep, and how far each probability moved.

        The inputs are the documents of one query, and have the same agreement. A document alone agrees where both
        call it relevant, or both irrelevant. Probabilities are sigmoids, whatever users see scores through.
        """
        before, after = old.values[:, 0], new.values[:, 0]  # (documents,)
        if len(before) == 1:
            agreement = np.asarray((before >= 0) == (after >= 0), np.float32)
        else:
            tops = [ranked(scores[None], top_of(len(scores))) for scores in (before, after)]
            agreement = np.repeat(overlap(tops[1], tops[0]), len(before))
        drift = np.abs(sigmoid(before) - sigmoid(after))
        known = np.isfinite(drift)
        return np.where(known, agreement, 0).astype(np.float32), np.where(known, drift, 1).astype(np.float32)


def _ranking(request: RankRequest, logits: Sequence[float], scores: Sequence[float]) -> Ranking:
    # By logits: a sigmoid may round different ones to the same score.
    order = np.argsort(-np.array(logits), kind="stable").tolist()
    return Ranking([RankedDocument(i, scores[i], request.documents[i]) for i in order])


def _request_from(item: Any, where: str) -> RankRequest:
    """Return a checked request out of whatever form it has."""
    query, documents = _parts_of(item, where)
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{where}: the query is {shown(repr(query))} and should be a text.")
    if isinstance(documents, str) or not isinstance(documents, Sequence) or not documents:
        raise InputError(f"{where}: the documents are {shown(repr(documents))} and should be a list of texts.")
    for document in documents:
        if not isinstance(document, str):
            raise InputError(f"{where}: a document is {shown(repr(document))} and should be a text.")
    return RankRequest(well_formed(query), tuple(well_formed(document) for document in documents))


def _parts_of(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, RankRequest):
        return item.query, item.documents
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if not isinstance(item, dict):
        raise InputError(f"{where}: {shown(repr(item))} is no request. Give {_REQUEST_FORM}.")
    if "query" not in item or ("documents" not in item and "document" not in item):
        raise InputError(
            f"{where}: a ranker needs a query and its documents (keys found: {keys_of(item)}). Write {_LOG_FORM}."
        )
    return item["query"], item["documents"] if "documents" in item else [item["document"]]


def _request_from_line(line: str, where: str) -> RankRequest:
    query, *documents = (part.strip() for part in line.split("\t"))
    if not any(documents):
        raise InputError(f"{where}: {shown(line)} has no document, and a ranker needs one. Write {_LOG_FORM}.")
    return _request_from((query, [document for document in documents if document]), where)


def _labels(facts: FolderFacts) -> Any:
    """Return how many labels `config.json` says; `transformers` leaves its default of 2 unsaid."""
    names = facts.config.get("id2label")
    return len(names) if isinstance(names, dict) else facts.config.get("num_labels", 2)
