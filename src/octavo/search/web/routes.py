"""`/v1/search` and its neighbours, as routes to add to the service's application. Knows no stage of a search."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from starlette.routing import BaseRoute, Route

from octavo.errors import InputError
from octavo.search.answers import SearchRequest, Stack
from octavo.search.index import Index
from octavo.search.pipeline import CLASSIFY, EMBED, RANK, TAG, MayQuery, Searcher, may_query_from_store, stack_from
from octavo.search.settings import RANKER_ALONE, weight_of
from octavo.search.web.examples import examples_from_index
from octavo.search.web.facts import SearchInfo, search_info
from octavo.search.web.forms import (
    DocumentsBody,
    DocumentsReply,
    SearchBody,
    SearchReply,
    reply_from_answer,
    reply_from_documents,
)
from octavo.search.web.other_versions import OtherVersions
from octavo.search.web.page_files import page_routes
from octavo.search.web.site import Site
from octavo.serve.http.endpoint import Endpoint, Operation
from octavo.serve.http.exchange import Answer, Call, json_answer
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import BadRequest
from octavo.serve.service import Listener, ModelInfo

_STAGES = (CLASSIFY, TAG, EMBED, RANK)
# Before a deadline: what follows the last stage has to fit in.
_AFTERWARDS_S = 0.01


def search_routes(
    site: Site, settings: ApiSettings, listener: Listener | None = None, *, others: OtherVersions | None = None
) -> list[BaseRoute]:
    """Return the routes of a search site, its page among them.

    Args:
        site: what is searched, and with what.
        settings: limits and keys.
        listener: hears of what is refused before the service is asked.
        others: versions loaded to be compared, for who wants to close them; None for some of its own.
    """
    handlers = _Handlers(
        site, others or OtherVersions(site.service, site.store, allow_uncertified=site.allow_uncertified)
    )
    operations = (
        Operation(
            method="POST",
            path="/v1/search",
            handle=handlers.search,
            summary="Search: understand a query, match it with documents, rank them",
            body=SearchBody,
            answer=SearchReply,
            example={"query": "undo the last commit", "top": 5},
        ),
        Operation(
            method="POST",
            path="/v1/search/documents",
            handle=handlers.documents,
            summary="Documents, whole, by their ids",
            body=DocumentsBody,
            answer=DocumentsReply,
            example={"ids": ["git-reset"]},
        ),
        Operation(
            method="GET",
            path="/v1/search/info",
            handle=handlers.info,
            summary="What is searched and with what: the index, models, versions and their certificates",
            answer=SearchInfo,
        ),
    )
    routes = [Route(one.path, Endpoint(one, site.service, settings, listener), name=one.path) for one in operations]
    return [*routes, *page_routes(site)]


class _Opened:
    """A version of the index, and what belongs to that one alone. Used on one event loop."""

    def __init__(self, index: Index, may_query: MayQuery) -> None:
        self.index = index
        self.may_query = may_query
        self._examples: list[str] | None = None

    @classmethod
    def of(cls, site: Site) -> _Opened:
        index = site.opened()
        return cls(index, _any_may if site.allow_uncertified else may_query_from_store(index, site.store))

    async def examples(self) -> list[str]:
        if self._examples is None:
            self._examples = await asyncio.to_thread(examples_from_index, self.index)
        return self._examples


class _Handlers:
    """What is done at each address."""

    def __init__(self, site: Site, others: OtherVersions) -> None:
        self._site = site
        self._others = others
        self._opened = _Opened.of(site)

    async def search(self, call: Call, body: SearchBody) -> Answer:
        opened = self._latest()
        stack = self._stack(opened.index)
        versions = self._by_model(body.versions, stack)
        call.asked = ""  # several models, and the service tells of what it refuses
        async with self._others.held(versions, beside=body.beside) as service:
            searcher = Searcher(
                opened.index,
                service,
                stack,
                opened.may_query,
                self._site.rules,
                rank_weight=self._rank_weight(opened.index, stack, versions),
            )
            answer = await searcher.search(
                SearchRequest(
                    body.query,
                    k=body.top,
                    rerank=self._site.rerank if body.rerank is None else body.rerank,
                    deadline_s=_deadline_s(call, body),
                    versions=versions,
                    filters=body.filters,
                )
            )
        return json_answer(reply_from_answer(answer))

    async def documents(self, call: Call, body: DocumentsBody) -> Answer:
        return json_answer(await asyncio.to_thread(self._documents, body.ids))

    async def info(self, call: Call, body: None) -> Answer:
        site, opened = self._site, self._latest()
        stack = self._stack(opened.index)
        ranks = stack.ranker is not None and self._rank_weight(opened.index, stack, {}) > 0
        read = partial(
            search_info,
            opened.index,
            site.service,
            stack,
            site.store,
            ranked_documents=site.rerank if ranks else 0,
            examples=await opened.examples(),
            admin_port=site.admin_port,
            has_reports=site.has_reports,
        )
        return Answer(msgspec.json.encode(await asyncio.to_thread(read)))

    def _documents(self, ids: Sequence[str]) -> DocumentsReply:
        lexical = self._site.opened().lexical
        documents = lexical.documents([*lexical.numbers(ids).values()])
        return reply_from_documents({one.id: one for one in documents.values()}, ids)

    def _latest(self) -> _Opened:
        """Return the version of the index that serves now, with what belongs to it."""
        if self._opened.index is not self._site.opened():
            self._opened = _Opened.of(self._site)
        return self._opened

    def _stack(self, index: Index) -> Stack:
        """Return the stack of what serves now: models come and go while a service runs."""
        try:
            return stack_from(index, self._site.service.models(), self._site.ranker)
        except InputError:  # the ranker that was named does not serve, or there are several: search without
            understanding = stack_from(index, self._understanding()).understanding
            return Stack(index.manifest.vectors_by.model, None, understanding)

    def _rank_weight(self, index: Index, stack: Stack, versions: Mapping[str, str]) -> float:
        """Return what the ranker weighs; one whose version is named is to be seen at work, also where it has no say."""
        weight = weight_of(index.tuned, stack.ranker, self._site.rank_weight)
        return RANKER_ALONE if not weight and stack.ranker in versions else weight

    def _understanding(self) -> list[ModelInfo]:
        return [info for info in self._site.service.models() if info.task.name in (CLASSIFY, TAG)]

    def _by_model(self, versions: Mapping[str, str], stack: Stack) -> dict[str, str]:
        """Return versions by model, of versions by model or stage. Raises BadRequest for a name that is neither."""
        models = {info.model: info.task.name for info in self._site.service.models()}
        members = [one for one in (*stack.understanding, stack.embedder, stack.ranker) if one in models]
        found = {}
        for name, version in versions.items():
            fitting = [name] if name in models else [one for one in members if models[one] == name and name in _STAGES]
            if len(fitting) != 1:
                raise BadRequest(
                    f"'{name:.80}' is {'several models' if fitting else 'no model and no stage'} of this search. "
                    f"Name one of: {', '.join(members) or 'none serves'}."
                )
            found[fitting[0]] = version
        return found


def _deadline_s(call: Call, body: SearchBody) -> float | None:
    """Return by when results have to be there: the earlier of the header's deadline and the body's."""
    given = [] if call.deadline_s is None else [call.deadline_s - _AFTERWARDS_S]
    if body.deadline_ms is not None:
        given.append(time.monotonic() + body.deadline_ms / 1000)
    return min(given, default=None)


def _any_may(info: ModelInfo) -> None:
    """Refuse no release."""
