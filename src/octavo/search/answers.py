"""What is asked of a search and what it answers, as values. Knows no stage and no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo.search import RERANK
from octavo.search.rules import Understanding


@dataclass(frozen=True, slots=True)
class Stack:
    """Which models do what.

    Attributes:
        embedder: the model that made the index's vectors.
        ranker: that puts the first documents in order; None for the fused order.
        understanding: classifiers and taggers.
    """

    embedder: str
    ranker: str | None = None
    understanding: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search.

    Attributes:
        query: what was typed.
        k: results that are wanted.
        depth: documents that words and vectors recall each.
        rerank: of the fused documents, so many are ranked; 0 for none.
        deadline_s: by `time.monotonic()`; None for no hurry.
        versions: model → version to ask, for models that should not answer with the one that serves.
        priority: of all its requests to the service.
        filters: field → text that documents must have there, whatever its case; of what was recalled, others are left
            out.
    """

    query: str
    k: int = 10
    depth: int = 100
    rerank: int = RERANK
    deadline_s: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage took, and which release did it.

    Attributes:
        name: `classify`, `tag`, `bm25`, `embed`, `vectors`, `fuse` or `rank`.
        ms: from its start to its end, waiting included.
        model: that answered; empty where the stage needs none.
        version: of its release.
        engine_id: that ran it.
        problem: why nothing came of it; empty where something did.
        note: what was done otherwise than asked, although something came of it; mostly empty.
    """

    name: str
    ms: float
    model: str = ""
    version: str = ""
    engine_id: str = ""
    problem: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A document that was found.

    Attributes:
        id: of the document.
        title: of it.
        text: of it.
        fields: what else the index keeps of it.
        score: the fused one, rules included.
        relevance_score: the ranker's; None where it was not ranked.
        ranks: from 1, in `bm25` and in `vectors`, where they found it.
        title_spans: where the title has words of the query, (start, end).
        text_spans: where the text has.
    """

    id: str
    title: str
    text: str
    fields: Mapping[str, str]
    score: float
    relevance_score: float | None
    ranks: Mapping[str, int]
    title_spans: Sequence[tuple[int, int]]
    text_spans: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The answer to one search.

    Attributes:
        query: as it was read.
        understanding: what models made of it.
        rules: what rules did, each in a few words.
        results: the best first.
        degraded: a stage failed or was late, and the results are what could be had without it.
        problems: why, in sentences.
        stages: in the order of the pipeline, with their times.
        ms: for all of it.
        index: version of the index.
    """

    query: str
    understanding: Understanding
    rules: tuple[str, ...]
    results: Sequence[Result]
    degraded: bool
    problems: Sequence[str]
    stages: Sequence[Stage]
    ms: float
    index: str
