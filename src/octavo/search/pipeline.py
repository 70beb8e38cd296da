"""From a query to ranked documents: understand it, recall by words and by vectors, fuse, rank. Under one deadline.

    query ─┬► classify, tag ────────────────┐
           ├► BM25 ───────────┐             ▼
           └► embed ► nearest ┴► fuse ► filter, boost ► rank the first N ► answer

What can run side by side does. A stage that fails or is late costs its own part of the answer and no more: without
vectors there are words, without ranking the fused order; the answer then says `degraded`, and why. Knows the service's
protocol; which engine runs a model, and how requests queue there, it does not know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.characters import well_formed
from octavo.errors import InputError, OctavoError
from octavo.search.answers import Result, SearchAnswer, SearchRequest, Stack, Stage
from octavo.search.clipping import SHARES, clipped
from octavo.search.documents import Document
from octavo.search.fusion import RANK_CONSTANT, Fused, fuse, interpolated
from octavo.search.index import Index
from octavo.search.lexical import Hits
from octavo.search.lineage import check_may_query
from octavo.search.rules import Applied, Intent, Rules, Slot, Understanding, applied, passes
from octavo.search.settings import RANKER_ALONE
from octavo.serve.refusals import BadRequest, DeadlineExceeded, Refusal, Unavailable
from octavo.serve.service import ModelInfo, Reply, Request, Service
from octavo.tasks.classify import Classification, Classify
from octavo.tasks.rank import Rank, RankRequest
from octavo.tasks.rank_split import activated
from octavo.tasks.tag import Tag
from octavo.tasks.tagging import Tagging
from octavo.types import IntArray

CLASSIFY, TAG, BM25, EMBED, VECTORS, FUSE, RANK = "classify", "tag", "bm25", "embed", "vectors", "fuse", "rank"
_ORDER = (CLASSIFY, TAG, BM25, EMBED, VECTORS, FUSE, RANK)
MOST_RESULTS, DEEPEST = 100, 1000
LONGEST_QUERY = 10_000  # characters

_LATE = "the deadline passed"

MayQuery = Callable[[ModelInfo], None]


def stack_from(index: Index, infos: Sequence[ModelInfo], ranker: str | None = None) -> Stack:
    """Return the stack that some served models make: the index's embedder, the one ranker, all that understands.

    Raises:
        InputError: there are several rankers and none is named, or the one that is named is none.
    """
    rankers = [info.model for info in infos if isinstance(info.task, Rank)]
    if ranker is not None and ranker not in rankers:
        raise InputError(f"There is no ranker '{ranker}'. There are: {', '.join(rankers) or 'none'}.")
    if ranker is None and len(rankers) > 1:
        raise InputError(f"There are several rankers: {', '.join(rankers)}. Name the one to use.")
    understanding = tuple(info.model for info in infos if isinstance(info.task, Classify | Tag))
    return Stack(index.manifest.vectors_by.model, ranker or next(iter(rankers), None), understanding)


def may_query_from_store(index: Index, store: Path) -> MayQuery:
    """Return what refuses a release whose queries were not proved to fit the vectors of an index; see `lineage`."""
    proved: set[str] = set()

    def check(info: ModelInfo) -> None:
        if info.sha256 not in proved:
            check_may_query(index.manifest.vectors_by, store / info.model / info.version, info.certificate)
            proved.add(info.sha256)

    return check


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches one index with the models that a service runs.

    Attributes:
        index: what is searched.
        service: runs the models.
        stack: which models do what.
        may_query: refuses an embedder's release that does not fit the index's vectors.
        rules: what understanding a query does to its results.
        rank_constant: of the fusion.
        rank_weight: of the ranker's scores beside the fused ones: at 1 the order is the ranker's, at 0 none is ranked.
    """

    index: Index
    service: Service
    stack: Stack
    may_query: MayQuery
    rules: Rules = field(default_factory=Rules)
    rank_constant: int = RANK_CONSTANT
    rank_weight: float = RANKER_ALONE

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """Answer a search. Called on the event loop, which it never blocks; cancelling it withdraws its requests.

        Raises:
            BadRequest: an empty or endless query, or numbers out of their limits.
            DeadlineExceeded: the deadline came before any document.
            Unavailable: neither words nor vectors could be searched.
        """
        return await _Search(self, checked(request)).answer()


def checked(request: SearchRequest) -> SearchRequest:
    """Return a request whose query every part downstream accepts. Raises BadRequest for one that none should see."""
    query = well_formed(request.query).replace("\0", " ").strip()
    if not query:
        raise BadRequest("The query is empty.")
    if len(query) > LONGEST_QUERY:
        raise BadRequest(f"The query has {len(query):,} characters; at most {LONGEST_QUERY:,} are taken.")
    limits = {"k": (1, MOST_RESULTS), "depth": (1, DEEPEST), "rerank": (0, MOST_RESULTS)}
    for name, (least, most) in limits.items():
        if not least <= getattr(request, name) <= most:
            raise BadRequest(f"{name} is {getattr(request, name)} and must be from {least} to {most}.")
    return replace(request, query=query)


@dataclass(slots=True)
class _Record:
    """A stage while it runs; see `Stage`."""

    name: str
    ms: float = 0.0
    model: str = ""
    version: str = ""
    engine_id: str = ""
    problem: str = ""
    note: str = ""

    def stage(self) -> Stage:
        return Stage(self.name, self.ms, self.model, self.version, self.engine_id, self.problem, self.note)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A document on its way to the answer: as it was fused, and by what rules multiply its score."""

    fused: Fused
    document: Document
    boost: float
    relevance_score: float | None = None

    @property
    def score(self) -> float:
        return self.fused.score * self.boost


class _Search:
    """One search on its way."""

    def __init__(self, searcher: Searcher, request: SearchRequest) -> None:
        self._searcher = searcher
        self._request = request
        self._records: list[_Record] = []

    async def answer(self) -> SearchAnswer:
        started = time.perf_counter()
        rules = self._searcher.rules.rules
        understood = asyncio.gather(*(self._understood(name) for name in self._searcher.stack.understanding))
        try:
            words, near = await asyncio.gather(self._words(), self._nearest())
            if words is None and near is None:
                raise self._nothing_recalled()
            rankings = {name: hits.numbers for name, hits in ((BM25, words), (VECTORS, near)) if hits is not None}
            # Only rules make the documents wait for what is understood.
            ruled = applied(rules, _joined(await understood)) if rules else Applied(())
            candidates = await self._ranked(await self._fused(rankings, ruled))
            understanding = _joined(await understood)
        finally:
            understood.cancel()
        stages = [record.stage() for record in sorted(self._records, key=lambda one: _ORDER.index(one.name))]
        problems = [f"{stage.name}: {stage.problem}" for stage in stages if stage.problem]
        return SearchAnswer(
            query=self._request.query,
            understanding=understanding,
            rules=ruled.names,
            results=self._results(candidates[: self._request.k]),
            degraded=bool(problems),
            problems=problems,
            stages=stages,
            ms=1e3 * (time.perf_counter() - started),
            index=self._searcher.index.manifest.version,
        )

    # The stages.

    async def _understood(self, model: str) -> Understanding | None:
        # Where rules wait for it, ranking gets what it leaves of the time: half at least.
        async with self._stage(CLASSIFY, share=0.5 if self._searcher.rules.rules else 1.0) as record:
            query = self._request.query
            reply, info = await self._ask(record, model, [query], decode=True)
            record.name = TAG if isinstance(info.task, Tag) else CLASSIFY
            return understanding_from(query, model, reply.answers[0])
        return None

    async def _words(self) -> Hits | None:
        async with self._stage(BM25):
            return await asyncio.to_thread(self._searcher.index.words, self._request.query, self._request.depth)
        return None

    async def _nearest(self) -> Hits | None:
        vector = None
        async with self._stage(EMBED) as record:
            reply, _ = await self._ask(record, self._searcher.stack.embedder, [self._request.query], embeds=True)
            vector = reply.outputs.values  # (1, width)
        if vector is None:
            return None
        async with self._stage(VECTORS):
            (hits,) = await asyncio.to_thread(self._searcher.index.nearest, vector, self._request.depth)
            return hits
        return None

    async def _fused(self, rankings: Mapping[str, IntArray], ruled: Applied) -> list[_Candidate]:
        """Fuse, and let rules have their say; only documents that may be shown or ranked are fetched."""
        started = time.perf_counter()
        fused = fuse(rankings, rank_constant=self._searcher.rank_constant)
        if not ruled.rules and not self._request.filters:
            fused = fused[: max(self._request.k, self._request.rerank)]
        numbers = [one.number for one in fused]
        documents = await asyncio.to_thread(self._searcher.index.documents, numbers)
        wanted = [one for one in fused if passes(self._request.filters, documents[one.number])]
        found = [_Candidate(one, documents[one.number], ruled.boost(documents[one.number])) for one in wanted]
        kept = sorted((one for one in found if one.boost > 0), key=lambda one: (-one.score, one.fused.number))
        self._records.append(_Record(FUSE, 1e3 * (time.perf_counter() - started)))
        return kept

    async def _ranked(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Let the ranker put the first documents in order; the others stay behind them as they were."""
        first, others = candidates[: self._request.rerank], candidates[self._request.rerank :]
        weight = self._searcher.rank_weight
        if self._searcher.stack.ranker is None or not first or not weight:
            return candidates
        async with self._stage(RANK) as record:
            reply, info = await self._relevance(record, self._searcher.stack.ranker, first)
            return reranked(first, reply, info, weight) + others
        return candidates

    async def _relevance(
        self, record: _Record, ranker: str, candidates: Sequence[_Candidate]
    ) -> tuple[Reply, ModelInfo]:
        """Ask a ranker, with the beginning of a query that is too long for it."""
        query, contents = self._request.query, [one.document.content for one in candidates]
        max_length = self._searcher.service.model(ranker, self._request.versions.get(ranker)).max_length
        for share in SHARES:
            read = clipped(query, max_length, share)
            if read != query:
                record.note = f"the query is long: its first {len(read):,} characters were ranked with"
            try:
                return await self._ask(record, ranker, [RankRequest(read, contents)])
            except BadRequest:  # more tokens than the characters let expect
                if share == SHARES[-1]:
                    raise
        raise AssertionError("unreachable")

    # What they share.

    @asynccontextmanager
    async def _stage(self, name: str, share: float = 1.0) -> AsyncIterator[_Record]:
        """Time a stage and end it at the deadline, or when a share of the time until then has passed.

        What goes wrong is recorded, and the search goes on.
        """
        record, started = _Record(name), time.perf_counter()
        self._records.append(record)
        try:
            async with asyncio.timeout(self._remaining_s(share)):
                yield record
        except TimeoutError:
            record.problem = _LATE
        except OctavoError as error:
            record.problem = _LATE if isinstance(error, DeadlineExceeded) else str(error)
        finally:
            record.ms = 1e3 * (time.perf_counter() - started)

    def _remaining_s(self, share: float) -> float | None:
        deadline_s = self._request.deadline_s
        return None if deadline_s is None else max(0.0, share * (deadline_s - time.monotonic()))

    async def _ask(
        self, record: _Record, model: str, items: Sequence[Any], *, decode: bool = False, embeds: bool = False
    ) -> tuple[Reply, ModelInfo]:
        request, service = self._request, self._searcher.service
        version = request.versions.get(model)
        info = self._told(record, service.model(model, version), embeds=embeds)
        # No version where none was named, so that a release on trial gets its share of searches.
        reply = await service.ask(Request(model, items, version, request.deadline_s, request.priority, decode))
        if reply.version != info.version:  # on trial, or swapped between the two calls
            info = self._told(record, service.model(model, reply.version), embeds=embeds)
        return reply, info

    def _told(self, record: _Record, info: ModelInfo, *, embeds: bool) -> ModelInfo:
        """Note who answers a stage, and refuse an embedder whose vectors do not fit."""
        record.model, record.version, record.engine_id = info.model, info.version, info.engine_id
        if embeds:
            self._searcher.may_query(info)
        return info

    def _nothing_recalled(self) -> Refusal:
        problems = {record.name: record.problem for record in self._records if record.problem}
        if all(problem == _LATE for problem in problems.values()):
            return DeadlineExceeded("The deadline passed before any document was found.")
        told = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        return Unavailable(f"Neither words nor vectors could be searched. {told}")

    def _results(self, found: Sequence[_Candidate]) -> list[Result]:
        texts = [text for one in found for text in (one.document.title, one.document.text)]
        marks = self._searcher.index.lexical.marked(texts, self._request.query)
        return [
            _result(one, *spans) for one, spans in zip(found, zip(marks[::2], marks[1::2], strict=True), strict=True)
        ]


def _result(one: _Candidate, title_spans: Sequence[tuple[int, int]], text_spans: Sequence[tuple[int, int]]) -> Result:
    return Result(
        id=one.document.id,
        title=one.document.title,
        text=one.document.text,
        fields=one.document.fields,
        score=one.score,
        relevance_score=one.relevance_score,
        ranks=one.fused.ranks,
        title_spans=title_spans,
        text_spans=text_spans,
    )


def reranked(candidates: Sequence[_Candidate], reply: Reply, info: ModelInfo, weight: float) -> list[_Candidate]:
    """Return candidates in the order of a ranker's outputs, one row for each, mixed with the fused scores.

    A boost multiplies both the fused score and the odds.
    """
    assert isinstance(info.task, Rank)
    logits = reply.outputs.values[:, 0]  # (candidates,)
    scores = activated(reply.outputs.values, info.task.activation)[:, 0]  # (candidates,)
    lifted = logits + np.log([one.boost for one in candidates])
    # By logits: a sigmoid may round different ones to the same score.
    mixed = interpolated([one.score for one in candidates], lifted, weight)
    order = np.argsort(-mixed, kind="stable").tolist()
    return [replace(candidates[i], relevance_score=float(scores[i])) for i in order]


def understanding_from(query: str, model: str, answer: Classification | Tagging) -> Understanding:
    """Return what a classifier's or a tagger's answer says of a query."""
    if isinstance(answer, Classification):
        return Understanding(intents=(Intent(model, answer.label, answer.confidence),))
    intents = () if answer.intent is None else (Intent(model, answer.intent, answer.confidence),)
    places, at = [], 0
    for word in answer.words:
        start = query.find(word, at)
        at = start + len(word)
        places.append((start, at))
    slots = [(one, places[one.start][0], places[one.end - 1][1]) for one in answer.entities]
    return Understanding(intents, tuple(Slot(model, one.type, one.text, start, end) for one, start, end in slots))


def _joined(parts: Sequence[Understanding | None]) -> Understanding:
    known = [part for part in parts if part is not None]
    return Understanding(
        tuple(intent for part in known for intent in part.intents),
        tuple(slot for part in known for slot in part.slots),
    )
