"""What `/v1/search` and its neighbours read and write, as types, and answers of the pipeline in that form.

Places in texts are counted in characters (Unicode code points), as Python does; JavaScript counts otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

from octavo.search.answers import Result, SearchAnswer, Stage
from octavo.search.documents import LONGEST_ID, Document
from octavo.search.pipeline import LONGEST_QUERY, MOST_RESULTS
from octavo.search.rules import Understanding
from octavo.search.web.snippet import Span, snippet

_LONGEST_WAIT_MS = 600_000
_MOST_DOCUMENTS = 100


class SearchBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to search for, and how."""

    query: Annotated[str, Meta(max_length=LONGEST_QUERY, description="As it was typed.")]
    top: Annotated[int, Meta(ge=1, le=MOST_RESULTS, description="Results that are wanted.")] = 10
    rerank: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MOST_RESULTS,
                description="Fused documents to rank; 0 for the fused order. Left out: as `octavo serve` was told.",
            ),
        ]
        | None
    ) = None
    filters: Annotated[
        dict[str, str],
        Meta(description="Field and text: of the documents that were recalled, keep those that have it there."),
    ] = {}
    deadline_ms: (
        Annotated[float, Meta(gt=0, le=_LONGEST_WAIT_MS, description="Answer by then, without what is late.")] | None
    ) = None
    versions: Annotated[
        dict[str, str],
        Meta(description="Model or stage (classify, tag, embed, rank), and the version to ask; loaded if need be."),
    ] = {}
    beside: Annotated[
        bool,
        Meta(
            description="Run these versions on one thread each, beside what serves: then their times can be compared."
        ),
    ] = False


class DocumentsBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Documents to show whole."""

    ids: Annotated[list[Annotated[str, Meta(max_length=LONGEST_ID)]], Meta(min_length=1, max_length=_MOST_DOCUMENTS)]


class IntentFound(TypedDict):
    """What the query is about, as a model said."""

    model: str
    label: str
    confidence: float


class SlotFound(TypedDict):
    """What the query names: its characters from `start` to before `end`."""

    model: str
    type: str
    text: str
    start: int
    end: int


class Understood(TypedDict):
    """What models made of the query."""

    intents: list[IntentFound]
    slots: list[SlotFound]


class Scores(TypedDict):
    """What the stages thought of a document: its rank from 1 by words and by vectors, and two scores."""

    bm25_rank: int | None
    vector_rank: int | None
    fused: float
    relevance: float | None


class ResultFound(TypedDict):
    """A document that was found. Spans are words of the query, (start, end) in characters."""

    id: str
    title: str
    title_spans: list[Span]
    snippet: str
    snippet_spans: list[Span]
    fields: dict[str, str]
    scores: Scores


class StageTaken(TypedDict):
    """A stage: what it took, which release did it, why nothing came of it, if so, and what was done otherwise."""

    name: str
    ms: float
    model: str
    version: str
    engine: str
    problem: str
    note: str


class SearchReply(TypedDict):
    """Results, best first, and how they came about."""

    query: str
    understanding: Understood
    rules: list[str]
    results: list[ResultFound]
    degraded: bool
    problems: list[str]
    stages: list[StageTaken]
    ms: float
    index: str


class DocumentShown(TypedDict):
    """A document, whole."""

    id: str
    title: str
    text: str
    fields: dict[str, str]


class DocumentsReply(TypedDict):
    """The documents that are there, in the order of the ids."""

    documents: list[DocumentShown]


def reply_from_answer(answer: SearchAnswer) -> SearchReply:
    """Return the answer to a search as it is written."""
    return {
        "query": answer.query,
        "understanding": _understood(answer.understanding),
        "rules": list(answer.rules),
        "results": [_result(one) for one in answer.results],
        "degraded": answer.degraded,
        "problems": list(answer.problems),
        "stages": [_stage(one) for one in answer.stages],
        "ms": round(answer.ms, 3),
        "index": answer.index,
    }


def reply_from_documents(found: Mapping[str, Document], ids: Sequence[str]) -> DocumentsReply:
    """Return documents as they are written, those of `ids` that were found."""
    documents = [found[name] for name in dict.fromkeys(ids) if name in found]
    return {
        "documents": [
            {"id": one.id, "title": one.title, "text": one.text, "fields": dict(one.fields)} for one in documents
        ]
    }


def _understood(understanding: Understanding) -> Understood:
    return {
        "intents": [
            {"model": one.model, "label": one.label, "confidence": one.confidence} for one in understanding.intents
        ],
        "slots": [
            {"model": one.model, "type": one.type, "text": one.text, "start": one.start, "end": one.end}
            for one in understanding.slots
        ],
    }


def _result(result: Result) -> ResultFound:
    shown = snippet(result.text, result.text_spans)
    return {
        "id": result.id,
        "title": result.title,
        "title_spans": list(result.title_spans),
        "snippet": shown.text,
        "snippet_spans": shown.spans,
        "fields": dict(result.fields),
        "scores": {
            "bm25_rank": result.ranks.get("bm25"),
            "vector_rank": result.ranks.get("vectors"),
            "fused": result.score,
            "relevance": result.relevance_score,
        },
    }


def _stage(stage: Stage) -> StageTaken:
    return {
        "name": stage.name,
        "ms": round(stage.ms, 3),
        "model": stage.model,
        "version": stage.version,
        "engine": stage.engine_id,
        "problem": stage.problem,
        "note": stage.note,
    }
