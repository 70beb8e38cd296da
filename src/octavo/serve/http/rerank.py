"""Reranking: `/rerank` of Text Embeddings Inference, `/v1/rerank` and `/v2/rerank` of Cohere and Jina.

`/rerank` is asked by both families: `texts` means the first, `documents` the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict
from uuid import uuid4

import msgspec
from msgspec import Meta

from octavo.serve.http.asking import ask, model_for
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.errors import Dialect
from octavo.serve.http.exchange import Answer, Call, named_answer
from octavo.serve.http.length import Cut, Truncate, check_cut
from octavo.serve.refusals import BadRequest
from octavo.serve.service import Reply
from octavo.tasks.rank import Rank, RankedDocument, Ranking, RankRequest

_TopN = Annotated[int, Meta(ge=1, description="Answer with the best ones only.")] | None
_MaxTokens = (
    Annotated[int, Meta(ge=1, description="At least what the model reads of query and document, which is the limit.")]
    | None
)
_RankFields = Annotated[list[str], Meta(description="Only `text`.")] | None


class DocumentText(msgspec.Struct):
    """A document as an object; other fields are ignored."""

    text: str


_Documents = Annotated[list[str | DocumentText], Meta(min_length=1)]


class RerankDocuments(msgspec.Struct, kw_only=True):
    """A query, and documents to put in order for it. Other fields are ignored."""

    query: str
    documents: _Documents
    model: str | None = None
    top_n: _TopN = None
    max_tokens_per_doc: _MaxTokens = None
    rank_fields: _RankFields = None
    truncate: Truncate = None
    return_documents: bool | None = None


class RerankTexts(msgspec.Struct, kw_only=True):
    """A query with either `texts` or `documents` to put in order for it. Other fields are ignored."""

    query: str
    texts: Annotated[list[str], Meta(min_length=1)] | None = None
    documents: _Documents | None = None
    model: str | None = None
    top_n: _TopN = None
    max_tokens_per_doc: _MaxTokens = None
    rank_fields: _RankFields = None
    truncate: Truncate = None
    truncation_direction: Cut = None
    raw_scores: Annotated[bool, Meta(description="With `texts`: logits in place of scores.")] = False
    return_text: Annotated[bool, Meta(description="With `texts`: answer with them.")] = False
    return_documents: Annotated[bool, Meta(description="With `documents`: answer with them.")] | None = None


class ScoredText(TypedDict):
    """A text: its place in the request, and its score."""

    index: int
    score: float
    text: NotRequired[str]


class RankedItem(TypedDict):
    """A document: its place in the request, and its score."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, str]]


class RerankAnswer(TypedDict):
    """Documents, the most relevant first."""

    id: str
    model: str
    results: list[RankedItem]
    usage: dict[str, int]


async def _rerank(call: Call, body: RerankTexts) -> Answer:
    if (body.texts is None) == (body.documents is None):
        raise BadRequest('Give either "texts" or "documents".')
    if body.texts is None:
        return await _documents(call, body)
    check_cut(body.truncation_direction)
    reply = await _ranked(call, body.query, body.texts, body)
    logits = reply.outputs.values[:, 0].tolist()  # (texts,)
    results: list[ScoredText] = []
    for one in reply.answers[0].results:
        scored: ScoredText = {"index": one.index, "score": one.relevance_score}
        if body.raw_scores:
            scored["score"] = logits[one.index]
        if body.return_text:
            scored["text"] = body.texts[one.index]
        results.append(scored)
    return named_answer(results, reply)


async def _documents(call: Call, body: RerankDocuments | RerankTexts) -> Answer:
    documents = [one if isinstance(one, str) else one.text for one in body.documents or ()]
    _check_fields(call, body)
    reply = await _ranked(call, body.query, documents, body)
    ranking: Ranking = reply.answers[0]
    content: RerankAnswer = {
        "id": str(uuid4()),
        "model": reply.model,
        "results": [_written(one, with_text=bool(body.return_documents)) for one in ranking.results[: body.top_n]],
        "usage": {"total_tokens": reply.tokens},
    }
    return named_answer(content, reply)


def _written(one: RankedDocument, *, with_text: bool) -> RankedItem:
    item: RankedItem = {"index": one.index, "relevance_score": one.relevance_score}
    if with_text:
        item["document"] = {"text": one.document}
    return item


def _check_fields(call: Call, body: RerankDocuments | RerankTexts) -> None:
    """Refuse what would be done otherwise than it is asked for. Raises BadRequest."""
    if body.rank_fields not in (None, ["text"]):
        raise BadRequest("rank_fields names other fields than text, the only one that is read. Leave it out.")
    if body.max_tokens_per_doc is not None:
        info = model_for(call.service, Rank, body.model)
        if body.max_tokens_per_doc < info.max_length:
            raise BadRequest(
                f"max_tokens_per_doc is {body.max_tokens_per_doc}. {info.model} reads query and document together, up "
                f"to {info.max_length} tokens, and cuts the document to what is left: a lower limit is not kept. "
                "Leave it out."
            )


async def _ranked(call: Call, query: str, documents: Sequence[str], body: RerankDocuments | RerankTexts) -> Reply:
    items = [RankRequest(query, documents)]
    return await ask(call, Rank, items, body.model, inputs=len(documents), whole=body.truncate is False)


_EXAMPLE = {
    "query": "list running containers",
    "documents": ["git log shows commits", "docker ps lists running containers"],
    "top_n": 1,
}

OPERATIONS = (
    Operation(
        method="POST",
        path="/rerank",
        handle=_rerank,
        summary="Score texts for a query; with `documents` in place of `texts`, as /v1/rerank does",
        dialect=Dialect.TEI,
        body=RerankTexts,
        answer=list[ScoredText] | RerankAnswer,
        example={"query": "list running containers", "texts": ["git log", "docker ps"]},
    ),
    *(
        Operation(
            method="POST",
            path=path,
            handle=_documents,
            summary="Put documents in order for a query",
            dialect=Dialect.COHERE,
            body=RerankDocuments,
            answer=RerankAnswer,
            example=_EXAMPLE,
        )
        for path in ("/v1/rerank", "/v2/rerank")
    ),
)
