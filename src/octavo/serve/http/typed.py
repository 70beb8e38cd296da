"""Octavo's own API: an address per task, with one input or many, and answers that say who gave them and in what time.

Knows what tasks take and answer; knows no model.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from octavo.serve.http.asking import ask
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.exchange import Answer, Call, Timings, json_answer, timings
from octavo.serve.service import Reply
from octavo.tasks.classify import Classification, Classify
from octavo.tasks.embed import Document, Embed
from octavo.tasks.rank import Rank, Ranking, RankRequest
from octavo.tasks.tag import Tag
from octavo.tasks.tagging import Tagging
from octavo.types import FloatArray, Pair

_Name = Annotated[str, Meta(description="Name of the model; may be left out where only one model does this task.")]
_Version = Annotated[str, Meta(description="One of the model's loaded versions; left out, the one that serves.")]
_Model = _Name | None
_Versioned = _Version | None


class TextPair(msgspec.Struct, forbid_unknown_fields=True):
    """A text, perhaps with a second one that is read together with it."""

    text: str
    text_pair: str | None = None


class WordList(msgspec.Struct, forbid_unknown_fields=True):
    """A text that has been divided into words, each of which gets a tag."""

    words: Annotated[list[str], Meta(min_length=1)]


class EmbeddedText(msgspec.Struct, forbid_unknown_fields=True):
    """A text to embed as a query or as a document: just one of the two."""

    query: str | None = None
    document: str | None = None

    def __post_init__(self) -> None:
        """Refuse none and both."""
        if (self.query is None) == (self.document is None):
            raise ValueError('Give either "query" or "document"')


class Candidates(msgspec.Struct, forbid_unknown_fields=True):
    """A query, and the documents to put in order for it."""

    query: str
    documents: Annotated[list[str], Meta(min_length=1)]


class ClassifyRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Texts, or pairs of texts, to classify."""

    input: str | TextPair | Annotated[list[str | TextPair], Meta(min_length=1)]
    model: _Model = None
    version: _Versioned = None


class TagRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Texts, or lists of words, to tag."""

    input: str | WordList | Annotated[list[str | WordList], Meta(min_length=1)]
    model: _Model = None
    version: _Versioned = None


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Texts to embed; a plain string is a query."""

    input: str | EmbeddedText | Annotated[list[str | EmbeddedText], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    model: _Model = None
    version: _Versioned = None


class RankQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Queries, each with the documents to put in order for it."""

    input: Candidates | Annotated[list[Candidates], Meta(min_length=1)]
    top_n: Annotated[int, Meta(ge=1, description="Answer with the best ones only.")] | None = None
    return_documents: bool = False
    model: _Model = None
    version: _Versioned = None


class _Answered(TypedDict):
    model: str
    version: str
    timing: Timings


class ClassifyAnswer(_Answered):
    """A label for each input, with the likeliest labels in order."""

    answers: list[Classification]


class TagAnswer(_Answered):
    """For each input its words, their tags, the entities that these come to, and the intent."""

    answers: list[Tagging]


class Vector(TypedDict):
    """A vector: numbers, or in base64 the same as little-endian float32."""

    vector: list[float] | str


class EmbedAnswer(_Answered):
    """A vector for each input."""

    answers: list[Vector]


class Ranked(TypedDict):
    """A document: its place in the request, its score, and its text where that was asked for."""

    index: int
    relevance_score: float
    document: NotRequired[str]


class RankedList(TypedDict):
    """The documents of a query, the most relevant first."""

    results: list[Ranked]


class RankAnswer(_Answered):
    """An order of documents for each input."""

    answers: list[RankedList]


async def _classify(call: Call, body: ClassifyRequest) -> Answer:
    items = [item if isinstance(item, str) else _pair(item) for item in _listed(body.input)]
    reply = await ask(call, Classify, items, body.model, body.version)
    return _answered(reply, reply.answers)


async def _tag(call: Call, body: TagRequest) -> Answer:
    items = [item if isinstance(item, str) else item.words for item in _listed(body.input)]
    reply = await ask(call, Tag, items, body.model, body.version)
    return _answered(reply, reply.answers)


async def _embed(call: Call, body: EmbedRequest) -> Answer:
    items = [item if isinstance(item, str) else _embedded(item) for item in _listed(body.input)]
    reply = await ask(call, Embed, items, body.model, body.version, decode=False)
    vectors = written_vectors(reply.outputs.values, body.encoding_format)
    return _answered(reply, [{"vector": vector} for vector in vectors])


async def _rank(call: Call, body: RankQuery) -> Answer:
    items = [RankRequest(one.query, one.documents) for one in _listed(body.input)]
    documents = sum(len(item.documents) for item in items)
    reply = await ask(call, Rank, items, body.model, body.version, inputs=documents)
    return _answered(reply, [_ranked(ranking, body) for ranking in reply.answers])


def written_vectors(vectors: FloatArray, encoding_format: str) -> list[Any]:
    """Return vectors, (texts, dimensions), as JSON takes them: rows of numbers, or little-endian float32 in base64."""
    if encoding_format == "base64":
        return [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4", copy=False)]
    return list(vectors)


def _answered(reply: Reply, answers: Sequence[Any]) -> Answer:
    return json_answer(
        {"model": reply.model, "version": reply.version, "answers": answers, "timing": timings(reply.timing)}
    )


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _pair(item: TextPair) -> str | Pair:
    return item.text if item.text_pair is None else Pair(item.text, item.text_pair)


def _embedded(item: EmbeddedText) -> str | Document:
    return item.query if item.query is not None else Document(item.document or "")


def _ranked(ranking: Ranking, body: RankQuery) -> RankedList:
    results: list[Ranked] = []
    for one in ranking.results[: body.top_n]:
        ranked: Ranked = {"index": one.index, "relevance_score": one.relevance_score}
        results.append(ranked | {"document": one.document} if body.return_documents else ranked)
    return {"results": results}


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/classify",
        handle=_classify,
        summary="Say what a text is about: its label, with probabilities",
        body=ClassifyRequest,
        answer=ClassifyAnswer,
        example={"input": "undo the last commit"},
    ),
    Operation(
        method="POST",
        path="/v1/tag",
        handle=_tag,
        summary="Find the slots in a text, and its intent",
        body=TagRequest,
        answer=TagAnswer,
        example={"input": ["turn on the lamp in the kitchen", {"words": ["play", "some", "jazz"]}]},
    ),
    Operation(
        method="POST",
        path="/v1/embed",
        handle=_embed,
        summary="Turn queries and documents into vectors",
        body=EmbedRequest,
        answer=EmbedAnswer,
        example={"input": ["list running containers", {"document": "docker ps lists running containers"}]},
    ),
    Operation(
        method="POST",
        path="/v1/rank",
        handle=_rank,
        summary="Put documents in order for a query",
        body=RankQuery,
        answer=RankAnswer,
        example={
            "input": {
                "query": "list running containers",
                "documents": ["git log shows commits", "docker ps lists running containers"],
            },
            "top_n": 1,
        },
    ),
)
