"""How good a search is, stage by stage, and what INT8 changes: BM25 alone, vectors alone, fused, ranked.

The same queries go through the FP32 stack and the INT8 stack, among the same vectors of documents, and are compared
query by query. No deadline and no service: this is about answers, not about time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from octavo.certify.decision import decide
from octavo.certify.statistics import paired_bootstrap
from octavo.certify.wording import interval_points, signed_points
from octavo.data.characters import shown
from octavo.errors import InputError
from octavo.progress import Progress, Silent
from octavo.search import RERANK
from octavo.search.index import Index
from octavo.search.judged import Judged
from octavo.search.pairs import Pair
from octavo.search.rankings import BM25, FUSED, RANKED, STAGES, VECTORS, Rankings, reordered, searched
from octavo.search.settings import RANKER_ALONE
from octavo.tasks.ranking import MRR, NDCG, metrics
from octavo.types import IntArray, Interval, Measure, Verdict

RECALL_100 = "recall@100"
MEASURES = (NDCG, MRR, RECALL_100)
MARGIN = 0.005


class StageScores(msgspec.Struct, frozen=True):
    """What one stage is worth in both precisions, by measure.

    Attributes:
        fp32: with their 95% intervals.
        int8: the same.
        difference: INT8 minus FP32, with the interval of the paired difference.
        verdict: whether INT8 is non-inferior in nDCG@10, with the margin of the evaluation.
        reason: the verdict in a sentence.
    """

    fp32: dict[str, Interval]
    int8: dict[str, Interval]
    difference: dict[str, Interval]
    verdict: Verdict
    reason: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A search, evaluated.

    Attributes:
        index: its folder.
        index_sha256: of the version.
        documents: in the index.
        queries: that were judged.
        left_out: judged queries without a relevant document.
        unknown_documents: relevant documents that the index does not have; they count as missed.
        data_sha256: of queries and judgements.
        rerank: documents that were ranked; 0 for none.
        rank_weight: of the ranker's scores beside the fused ones.
        margin: the loss of nDCG@10 that still counts as none, as a fraction.
        models: model → precision → the version and the engine that ran it.
        stages: by name, in order; `ranked` only where there is a ranker.
        notes: what a reader should know, in sentences: stages that do harm before all else.
    """

    index: str
    index_sha256: str
    documents: int
    queries: int
    left_out: int
    unknown_documents: int
    data_sha256: str
    rerank: int
    rank_weight: float
    margin: float
    models: dict[str, dict[str, str]]
    stages: dict[str, StageScores]
    notes: list[str]


def evaluate(
    index: Index,
    judged: Judged,
    embedder: Pair,
    ranker: Pair | None,
    *,
    rerank: int = RERANK,
    rank_weight: float = RANKER_ALONE,
    margin: float = MARGIN,
    threads: int | None = None,
    allow_uncertified: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Search for every judged query with the FP32 and the INT8 releases, and compare.

    Args:
        index: what is searched.
        judged: queries, and their relevant documents.
        embedder: of the model that made the index's vectors.
        ranker: None to leave ranking out.
        rerank: documents that are ranked.
        rank_weight: of the ranker's scores beside the fused ones; at 0 nothing is ranked.
        margin: of nDCG@10, as a fraction.
        threads: CPU threads of each engine; None for all.
        allow_uncertified: also take releases that are not certified here.
        progress: where to report.

    Raises:
        ReleaseError: a release cannot be trusted, or does not fit the index's vectors.
        InputError: no relevant document is in the index.
    """
    left_out = (
        ["Nothing is ranked: the ranker weighs 0 here (octavo search tune)."] if ranker and not rank_weight else []
    )
    ranker = ranker if rank_weight else None
    relevance, unknown = relevance_by_number(index, judged)  # before anything is loaded: it may refuse
    found: dict[str, Rankings] = {}
    models_told: dict[str, dict[str, str]] = {}
    for precision in ("fp32", "int8"):
        made = searched(
            index,
            judged.queries,
            getattr(embedder, precision),
            getattr(ranker, precision) if ranker else None,
            rerank=rerank,
            threads=threads,
            allow_uncertified=allow_uncertified,
            progress=progress or Silent(),
            label=f"{precision}: ",
        )
        ranked = {RANKED: reordered(made.recalled, made.logits, rank_weight)} if ranker else {}
        found[precision] = {**made.recalled.rankings, **ranked}
        for model, release in made.releases:
            models_told.setdefault(model, {})[precision] = release
    return Evaluation(
        index=str(index.folder),
        index_sha256=index.manifest.index_sha256,
        documents=len(index),
        queries=len(judged.queries),
        left_out=judged.left_out,
        unknown_documents=unknown,
        data_sha256=judged.sha256,
        rerank=rerank if ranker is not None else 0,
        rank_weight=rank_weight,
        margin=margin,
        models=models_told,
        stages={
            stage: _scores(stage, found["fp32"][stage], found["int8"][stage], relevance, margin)
            for stage in STAGES
            if stage in found["fp32"]
        },
        notes=[*left_out, *_notes(found["int8"], relevance)],
    )


def measures_of(rankings: Sequence[IntArray], relevance: Sequence[Mapping[int, float]]) -> dict[str, Measure]:
    """Return the measures of some rankings against graded documents; a unit is a query."""
    ones = np.ones(len(relevance), np.float32)
    values = dict(metrics(rankings, relevance, (NDCG, MRR)))
    shares = [
        sum(number in graded for number in ranking[:100].tolist()) / len(graded)
        for ranking, graded in zip(rankings, relevance, strict=True)
    ]
    values[RECALL_100] = np.array(shares, np.float32)
    return {name: Measure(name, values[name], ones) for name in MEASURES}


def relevance_by_number(index: Index, judged: Judged) -> tuple[list[dict[int, float]], int]:
    """Return grades by number of document, and how many of the documents are not in the index.

    Raises:
        InputError: none of them is: whatever is measured would be 0.
    """
    names = list(dict.fromkeys(name for graded in judged.relevance for name in graded))
    known = index.lexical.numbers(names)
    if not known:
        raise InputError(
            f"{index.folder}: none of the {len(names):,} relevant documents is in the index, such as "
            f"{shown(names[0])}. The judgements are about another corpus."
        )
    # Below 0 there is no number: what is not in the index stays relevant, and is never found.
    missing = {name: -place for place, name in enumerate((name for name in names if name not in known), 1)}
    numbers = {**known, **missing}
    return [{numbers[name]: grade for name, grade in graded.items()} for graded in judged.relevance], len(missing)


def _scores(
    stage: str,
    fp32: Sequence[IntArray],
    int8: Sequence[IntArray],
    relevance: Sequence[Mapping[int, float]],
    margin: float,
) -> StageScores:
    ours, theirs = measures_of(int8, relevance), measures_of(fp32, relevance)
    compared = {name: paired_bootstrap(theirs[name], ours[name]) for name in MEASURES}
    if stage == BM25:  # nothing to compare, so nothing to doubt
        scores = {name: one.teacher for name, one in compared.items()}
        nothing = Interval(0.0, 0.0, 0.0)
        return StageScores(scores, scores, dict.fromkeys(MEASURES, nothing), Verdict.PASS, "No model takes part.")
    first = compared[NDCG]
    decision = decide(first.difference, first.sd, first.rows, margin, unit="query", metric=NDCG)
    return StageScores(
        fp32={name: one.teacher for name, one in compared.items()},
        int8={name: one.engine for name, one in compared.items()},
        difference={name: one.difference for name, one in compared.items()},
        verdict=decision.verdict,
        reason=decision.reason,
    )


def _notes(rankings: Rankings, relevance: Sequence[Mapping[int, float]]) -> list[str]:
    """Say where a later stage does worse than an earlier one, beyond doubt."""
    values = {stage: measures_of(found, relevance)[NDCG] for stage, found in rankings.items()}
    advice = {
        (BM25, FUSED): "Vectors do harm here: does the embedder know such texts?",
        (VECTORS, FUSED): "Words do harm here.",
        (FUSED, RANKED): "Ranking does harm here: tune its weight (octavo search tune), or leave it out (--rerank 0).",
    }
    notes = []
    for (before, after), sentence in advice.items():
        if before not in values or after not in values:
            continue
        difference = paired_bootstrap(values[before], values[after]).difference
        if difference.high < 0:
            told = f"{signed_points(difference.value)} points of nDCG@10 {interval_points(difference)}"
            notes.append(f"{after} is worse than {before}: {told}. {sentence}")
    return notes
