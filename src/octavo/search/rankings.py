"""What the stages of a search find for many queries at once: words, vectors, both fused, ranked.

No deadline and no service: releases are loaded one after the other. Whether they find anything good, `evaluate` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.errors import InputError
from octavo.ladder.evidence import BATCH_INPUTS, outputs_in_batches
from octavo.progress import Progress, Silent
from octavo.search.clipping import SHARES, clipped
from octavo.search.embedder import embed_task, embedded
from octavo.search.fusion import Scores, fuse, interpolated
from octavo.search.index import Index
from octavo.search.lineage import check_may_query
from octavo.store.model import Model, load
from octavo.tasks.rank import RankRequest
from octavo.types import FloatArray, IntArray

BM25, VECTORS, FUSED, RANKED = "bm25", "vectors", "fused", "ranked"
STAGES = (BM25, VECTORS, FUSED, RANKED)
_DEPTH = 100
_QUERIES_AT_ONCE = 32

Rankings = Mapping[str, Sequence[IntArray]]  # by stage, of each query, numbers of documents, best first


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was found before ranking.

    Attributes:
        rankings: by words, by vectors, and both fused.
        fused_scores: of the fused documents of each query, (documents,).
    """

    rankings: Rankings
    fused_scores: Sequence[Scores]


@dataclass(frozen=True, slots=True)
class Searched:
    """What one release of each model made of some queries.

    Attributes:
        recalled: before ranking.
        logits: of the ranker, for the first fused documents of each query, (documents,); empty where nothing ranks.
        releases: the embedder, then the ranker: its name, and the version and the engine that ran.
    """

    recalled: Recalled
    logits: Sequence[FloatArray]
    releases: Sequence[tuple[str, str]]


def searched(
    index: Index,
    queries: Sequence[str],
    embedder: Path,
    ranker: Path | None,
    *,
    rerank: int,
    threads: int | None,
    allow_uncertified: bool,
    progress: Progress,
    label: str = "",
) -> Searched:
    """Search for every query with the releases in two folders, one loaded after the other.

    Args:
        index: what is searched.
        queries: as they were typed.
        embedder: the release that embeds queries.
        ranker: the release that ranks; None for none.
        rerank: documents that are ranked.
        threads: CPU threads of each engine; None for all.
        allow_uncertified: also take releases that are not certified here.
        progress: where to report.
        label: of the progress, before what is done.

    Raises:
        ReleaseError: a release cannot be trusted, or does not fit the index's vectors.
    """
    logits: list[FloatArray] = []
    with load(embedder, threads=threads, allow_uncertified=allow_uncertified) as model:
        _check_embedder(index, model, allow_uncertified)
        found = recalled(index, model, queries, f"{label}embed queries", progress)
        releases = [_told(model)]
    if ranker is not None:
        with load(ranker, threads=threads, allow_uncertified=allow_uncertified) as model:
            step = f"{label}rank {rerank} documents of each query"
            logits = pair_scores(index, model, queries, found.rankings[FUSED], rerank, step, progress)
            releases.append(_told(model))
    return Searched(found, logits, releases)


def recalled(index: Index, embedder: Model, queries: Sequence[str], label: str, progress: Progress) -> Recalled:
    """Return what words, vectors and both fused find for each query."""
    words = [index.words(query, _DEPTH).numbers for query in queries]
    near: list[IntArray] = []
    with progress.step(label, len(queries)) as bar:
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            some = list(queries[first : first + _QUERIES_AT_ONCE])
            near += [hits.numbers for hits in index.nearest(embedded(embedder, some), _DEPTH)]
            bar.advance(len(some))
    fused = [fuse({BM25: ours, VECTORS: theirs})[:_DEPTH] for ours, theirs in zip(words, near, strict=True)]
    numbers = [np.array([one.number for one in found], np.int64) for found in fused]
    scores = [np.array([one.score for one in found], np.float64) for found in fused]
    return Recalled({BM25: words, VECTORS: near, FUSED: numbers}, scores)


def pair_scores(
    index: Index,
    ranker: Model,
    queries: Sequence[str],
    rankings: Sequence[IntArray],
    first: int,
    label: str,
    progress: Progress,
) -> list[FloatArray]:
    """Return the ranker's logits of the first documents of each query, (documents,)."""
    found: list[FloatArray] = []
    with progress.step(label, len(queries)) as bar:
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            end = start + _QUERIES_AT_ONCE
            heads = [numbers[:first] for numbers in rankings[start:end]]
            found += _scores_of_pairs(index, ranker, queries[start:end], heads)
            bar.advance(len(heads))
    return found


def reordered(found: Recalled, logits: Sequence[FloatArray], weight: float) -> list[IntArray]:
    """Return the fused rankings with the documents that have logits in the order of both scores, mixed.

    Args:
        found: what was fused.
        logits: of the ranker, for the first documents of each query.
        weight: of the ranker; see `octavo.search.fusion.interpolated`.
    """
    made = []
    for numbers, fused, ranker in zip(found.rankings[FUSED], found.fused_scores, logits, strict=True):
        mixed = interpolated(fused[: len(ranker)], ranker, weight)
        order = np.argsort(-mixed, kind="stable")
        made.append(np.concatenate([numbers[order], numbers[len(ranker) :]]))
    return made


def _check_embedder(index: Index, model: Model, allow_uncertified: bool) -> None:
    """Refuse a release that may not query an index.

    Raises:
        InputError: it is no embedder.
        ReleaseError: it does not fit the index's vectors.
    """
    embed_task(model)
    if not allow_uncertified:
        check_may_query(index.manifest.vectors_by, model.release.folder, model.certificate)


def _scores_of_pairs(
    index: Index, ranker: Model, queries: Sequence[str], heads: Sequence[IntArray]
) -> list[FloatArray]:
    """Return the ranker's logits, for each query (documents,). Pairs of a length share a batch."""
    documents = index.documents(np.unique(np.concatenate(heads)).tolist())
    requests = [
        RankRequest(_readable(ranker, query), [documents[number].content for number in head.tolist()])
        for query, head in zip(queries, heads, strict=True)
        if len(head)
    ]
    counts = [len(head) for head in heads]
    if not requests:
        return [np.empty(0, np.float32) for _ in heads]
    batch = ranker.tokenizer.encode(ranker.task.prepare(requests))
    order = np.argsort(batch.lengths, kind="stable")
    logits = np.empty(len(batch), np.float32)
    logits[order] = outputs_in_batches(ranker.engine.run, batch.select(order), BATCH_INPUTS, Silent()).values[:, 0]
    return np.split(logits, np.cumsum(counts)[:-1])


def _readable(ranker: Model, query: str) -> str:
    """Return what a search would rank with of a query."""
    for share in SHARES[:-1]:
        read = clipped(query, ranker.config.max_length, share)
        try:
            ranker.tokenizer.encode(ranker.task.prepare([RankRequest(read, ["a document"])]))
        except InputError:
            continue
        return read
    return clipped(query, ranker.config.max_length, SHARES[-1])


def _told(model: Model) -> tuple[str, str]:
    """Say what it is called, and which version runs on which engine."""
    return model.release.model, f"{model.release.version} · {model.engine.engine_id}"
