"""An index and its models, opened together for the command line: searches one query after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InputError
from octavo.progress import Progress
from octavo.search.answers import SearchAnswer, SearchRequest
from octavo.search.direct import DirectService
from octavo.search.index import Index, open_index
from octavo.search.pipeline import Searcher, may_query_from_store, stack_from
from octavo.search.rules import Rules
from octavo.search.settings import weight_of


@dataclass(frozen=True, slots=True)
class Session:
    """A searcher with an event loop of its own. Not thread-safe."""

    searcher: Searcher
    runner: asyncio.Runner

    def search(self, query: str, *, k: int, rerank: int, depth: int, within_ms: float | None = None) -> SearchAnswer:
        """Answer one query. Raises BadRequest, DeadlineExceeded or Unavailable, as `Searcher.search`."""
        deadline_s = None if within_ms is None else time.monotonic() + within_ms / 1e3
        request = SearchRequest(query, k=k, depth=depth, rerank=rerank, deadline_s=deadline_s)
        return self.runner.run(self.searcher.search(request))


@contextmanager
def opened_session(
    path: Path,
    store: Path | None,
    *,
    versions: Mapping[str, str],
    ranker: str | None,
    rank_weight: float | None,
    rules: Rules,
    threads: int | None,
    allow_uncertified: bool,
    progress: Progress,
) -> Iterator[Session]:
    """Open an index and the models of its store.

    Args:
        path: of the index.
        store: of the releases; None for the one that the index was made with.
        versions: model → version, for models that should not answer with their current one.
        ranker: which one, where there are several.
        rank_weight: how much it has to say; None for what was tuned.
        rules: what understanding a query does.
        threads: CPU threads of each engine; None for all.
        allow_uncertified: search with releases that are not certified here.
        progress: where to report.

    Raises:
        InputError: there is no such store, version or ranker.
        ReleaseError: the index or a named release cannot be trusted, or the embedder does not fit the vectors.
    """
    index = open_index(path, progress)
    folder = store_of(index, store)
    with (
        DirectService.from_store(folder, versions, threads=threads, allow_uncertified=allow_uncertified) as service,
        asyncio.Runner() as runner,
    ):
        check = may_query_from_store(index, folder)
        stack = stack_from(index, service.models(), ranker)
        if not allow_uncertified:
            check(service.model(stack.embedder))  # refused now, not degraded at each query
        may_query = (lambda _info: None) if allow_uncertified else check
        weight = weight_of(index.tuned, stack.ranker, rank_weight)
        yield Session(Searcher(index, service, stack, may_query, rules, rank_weight=weight), runner)


def store_of(index: Index, named: Path | None) -> Path:
    """Return the store to search with: the one that is named, or the one that the index remembers.

    Raises:
        InputError: neither is there.
    """
    if named is not None:
        return named
    remembered = index.folder.parent / index.manifest.store
    if not index.manifest.store or not remembered.is_dir():
        raise InputError(f"{index.folder}: the store that it was made with is not at {remembered}. Name it: --store.")
    return remembered.resolve()
