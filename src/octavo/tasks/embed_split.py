"""Queries and documents as an embedder reads them, and what its vectors are worth: retrieval metrics per query."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from octavo.data.retrieval import Retrieval, beginning
from octavo.tasks.base import Answers, Groups, Purpose, Units
from octavo.tasks.ranking import CUTOFF, MRR, NDCG, RECALL, metrics, overlap, top_documents
from octavo.types import FloatArray, IntArray, Measure, Outputs

NDCG_ACROSS = f"{NDCG} with the teacher's documents"

_OTHERS_IN_DEV = 1000
_NEGATIVES_PER_GROUP = 7
_TINY = np.float32(1e-12)


@dataclass(frozen=True, slots=True)
class EmbedSplit:
    """Queries, the documents that they are to find, and both as inputs: each text once, queries first.

    Attributes:
        name: of the split.
        sha256: of its files.
        inputs: texts after their prompts.
        units: the queries.
        groups: of each query and document that is relevant to it: both, and some of the query's negatives.
        queries: input of each query, (queries,).
        documents: input of each document, (documents,).
        relevance: of each query, grades above 0 by number in `documents`.
        document_names: how each document begins.
        similarity: `cosine` or `dot`.
        left_out: queries of the file without a relevant document.
    """

    name: str
    sha256: str
    inputs: Sequence[str]
    units: Units
    groups: Groups
    queries: IntArray
    documents: IntArray
    relevance: Sequence[Mapping[int, float]]
    document_names: Sequence[str]
    similarity: str
    left_out: int

    agreement_means: ClassVar[str] = f"of the teacher's top {CUTOFF} are kept"
    flip_means: ClassVar[str] = "have another first document"

    @classmethod
    def from_retrieval(cls, data: Retrieval, purpose: Purpose, prompts: tuple[str, str], similarity: str) -> EmbedSplit:
        """Return the split that `purpose` needs of the data; `prompts` go before queries and documents."""
        chosen = _documents_for(data, purpose)
        number = {document: i for i, document in enumerate(chosen)}
        numbers: dict[str, int] = {}
        queries = _inputs_of((prompts[0] + text for text in data.queries), numbers)
        documents = _inputs_of((prompts[1] + data.documents[document] for document in chosen), numbers)
        names = [beginning(data.documents[document]) for document in chosen]
        relevance = [{number[document]: grade for document, grade in graded.items()} for graded in data.relevance]
        negatives = [[number[document] for document in named if document in number] for named in data.negatives]
        return cls(
            name=data.name,
            sha256=data.sha256,
            inputs=tuple(numbers),
            units=Units("query", data.queries, [names[next(iter(graded))] for graded in relevance], queries),
            groups=_groups(queries, documents, relevance, negatives),
            queries=queries,
            documents=documents,
            relevance=relevance,
            document_names=names,
            similarity=similarity,
            left_out=data.left_out,
        )

    def answers(self, outputs: Outputs, teacher: Outputs) -> Answers:
        """Rank the documents for each query by the outputs, and score that.

        `ndcg@10` compares the engine with itself. An index that the teacher filled keeps the teacher's vectors of
        the documents, so a second nDCG, of the engine's queries among those, decides as well.
        """
        own, theirs = self._comparable(outputs.values), self._comparable(teacher.values)
        rankings = self._rankings(own, own)
        values = metrics(rankings, self.relevance, (NDCG, MRR, RECALL))
        across = metrics(self._rankings(own, theirs), self.relevance, (NDCG,))
        ones = np.ones(len(self.queries), np.float32)
        return Answers(
            measures=(
                Measure(NDCG, values[NDCG], ones),
                Measure(NDCG_ACROSS, across[NDCG], ones, gates=True),
                Measure(MRR, values[MRR], ones),
                Measure(RECALL, values[RECALL], ones),
            ),
            names=[self.document_names[ranking[0]] for ranking in rankings],
            agreement=overlap(rankings, self._rankings(theirs, theirs)),
            confidence=None,
            shown=outputs.values,
        )

    def distance(self, outputs: Outputs, teacher: Outputs) -> float:
        """Return the mean over inputs of 1 - cosine to the teacher's vector.

        Where lengths count (`dot`), it is half the squared distance by the teacher's squared length, which for
        vectors of equal length is the same.
        """
        own, theirs = self._comparable(outputs.values), self._comparable(teacher.values)
        apart = np.square(own - theirs).sum(axis=1, dtype=np.float64)  # (inputs,)
        lengths = np.square(theirs).sum(axis=1, dtype=np.float64)
        return float((apart / np.maximum(2 * lengths, _TINY)).mean())

    def _comparable(self, vectors: FloatArray) -> FloatArray:
        """Return vectors whose dot product is the similarity, (inputs, width)."""
        if self.similarity == "dot":
            return vectors
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY), np.float32)

    def _rankings(self, queries: FloatArray, documents: FloatArray) -> list[IntArray]:
        distinct, columns = np.unique(self.documents, return_inverse=True)
        return top_documents(queries[self.queries], documents[distinct], CUTOFF, columns)


def _documents_for(data: Retrieval, purpose: Purpose) -> list[int]:
    """Return the numbers of the documents that are read: the corpus, or the judged ones and on dev some more."""
    if purpose is Purpose.TEST:
        return list(range(len(data.documents)))
    judged = {document for graded in data.relevance for document in graded}
    judged |= {document for named in data.negatives for document in named}
    if purpose is Purpose.DEV:
        others = [document for document in range(len(data.documents)) if document not in judged]
        # By a hash of the id, so that the choice depends on neither order nor number of the documents.
        others.sort(key=lambda document: hashlib.sha256(data.document_ids[document].encode()).digest())
        judged |= set(others[:_OTHERS_IN_DEV])
    return sorted(judged)


def _inputs_of(texts: Iterable[str], numbers: dict[str, int]) -> IntArray:
    """Return the input number of each text; a text that is new gets the next one."""
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def _groups(
    queries: IntArray,
    documents: IntArray,
    relevance: Sequence[Mapping[int, float]],
    negatives: Sequence[Sequence[int]],
) -> Groups:
    members: list[int] = []
    offsets = [0]
    for query, graded, named in zip(queries.tolist(), relevance, negatives, strict=True):
        for turn, document in enumerate(graded):
            dealt = named[turn :: len(graded)][:_NEGATIVES_PER_GROUP]  # each to one of the query's groups
            members += [query, int(documents[document]), *(int(documents[negative]) for negative in dealt)]
            offsets.append(len(members))
    return Groups(np.array(members, np.int64), np.array(offsets, np.int64))
