"""How much should the ranker have to say? Measured on development queries, for every weight from 0 to 1.

A ranker that saw too little would spoil an order that words and vectors agree on. Its scores are therefore mixed with
the fused ones (`fusion.interpolated`), and the mixture is what development queries say is best. Of equal weights the
smaller one is taken; at 0 nothing is ranked, which costs nothing. No test query may be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from octavo.certify.statistics import paired_bootstrap
from octavo.progress import Progress, Silent
from octavo.search import RERANK
from octavo.search.evaluate import measures_of, relevance_by_number
from octavo.search.index import Index
from octavo.search.judged import Judged
from octavo.search.rankings import FUSED, reordered, searched
from octavo.search.settings import Tried, Tuned
from octavo.tasks.ranking import NDCG

WEIGHTS = tuple(step / 10 for step in range(11))
_TIE = 1e-9


def tune(
    index: Index,
    judged: Judged,
    embedder: Path,
    ranker: Path,
    *,
    rerank: int = RERANK,
    threads: int | None = None,
    allow_uncertified: bool = False,
    progress: Progress | None = None,
) -> Tuned:
    """Return the weight of the ranker with the highest nDCG@10, and what every other one gives. Writes nothing.

    Args:
        index: what is searched.
        judged: development queries, and their relevant documents.
        embedder: the release that embeds queries.
        ranker: the release that ranks.
        rerank: documents that are ranked.
        threads: CPU threads of each engine; None for all.
        allow_uncertified: also take releases that are not certified here.
        progress: where to report.

    Raises:
        ReleaseError: a release cannot be trusted, or does not fit the index's vectors.
        InputError: no relevant document is in the index.
    """
    relevance, _ = relevance_by_number(index, judged)  # before anything is loaded: it may refuse
    made = searched(
        index,
        judged.queries,
        embedder,
        ranker,
        rerank=rerank,
        threads=threads,
        allow_uncertified=allow_uncertified,
        progress=progress or Silent(),
    )
    fused = measures_of(made.recalled.rankings[FUSED], relevance)[NDCG]
    tried = []
    for weight in WEIGHTS:
        ranked = reordered(made.recalled, made.logits, weight)
        compared = paired_bootstrap(fused, measures_of(ranked, relevance)[NDCG])
        tried.append(Tried(weight, compared.engine, compared.difference))
    return Tuned(
        weight=best_weight(tried),
        ranker=made.releases[-1][0],
        releases=dict(made.releases),
        rerank=rerank,
        queries=len(judged.queries),
        data_sha256=judged.sha256,
        index_sha256=index.manifest.index_sha256,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tried=tried,
    )


def best_weight(tried: Sequence[Tried]) -> float:
    """Return the weight with the highest nDCG@10; of equal ones the smallest."""
    best = max(one.ndcg.value for one in tried)
    return min(one.weight for one in tried if one.ndcg.value >= best - _TIE)
