"""An evaluation as one self-contained HTML page. Knows the evaluation; decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from octavo.certify.plots.intervals import interval_bar
from octavo.certify.report_page import note_list, page_html, reproduce_section, section
from octavo.certify.report_tables import badge, fact_list, user_text
from octavo.certify.wording import count, interval_points, metric_name, points, score, signed_points
from octavo.search.evaluate import MEASURES, Evaluation, StageScores
from octavo.search.rankings import BM25, RANKED
from octavo.tasks.ranking import NDCG
from octavo.types import Interval

STAGE_NAMES = {"bm25": "BM25 alone", "vectors": "Vectors alone", "fused": "Fused", "ranked": "Ranked"}


def evaluation_html(evaluation: Evaluation, *, title: str, reproduce: str) -> str:
    """Write an evaluation as one self-contained HTML page.

    Args:
        evaluation: what was measured.
        title: of the page.
        reproduce: the command that leads to the same page.
    """
    return page_html(
        title=title,
        kind="search quality",
        subject=title,
        headline=_headline(evaluation),
        sections=[
            section(
                "Stage by stage",
                "What each stage of the search is worth, in FP32 and in INT8, on the same judged queries. Points are "
                "hundredths of the measure; intervals are 95%, by the paired bootstrap over queries.",
                note_list(evaluation.notes),
                "".join(_tables(evaluation)),
            ),
            section("What was compared", "", fact_list(_facts(evaluation))),
            reproduce_section(reproduce),
        ],
        colophon=f"Written by Octavo. Queries and judgements: <code>{escape(evaluation.data_sha256[:16])}…</code>",
    )


def _headline(evaluation: Evaluation) -> str:
    stage, last = list(evaluation.stages.items())[-1]
    difference = last.difference[NDCG]
    found = {
        "pass": "INT8 searches as well as FP32.",
        "fail": "INT8 searches worse than FP32.",
        "inconclusive": "These queries do not decide whether INT8 searches as well as FP32.",
    }
    return (
        f'<h1>{found[last.verdict]}</h1>\n<p class="lead">{escape(STAGE_NAMES[stage])}: nDCG@10 '
        f"{score(last.fp32[NDCG].value, NDCG)} → {score(last.int8[NDCG].value, NDCG)}, "
        f"{signed_points(difference.value)} points {interval_points(difference)}, margin {points(evaluation.margin)}. "
        f"{badge(last.verdict)}</p>\n"
        f'<p class="lead">{count(evaluation.queries, "judged query")}, {count(evaluation.documents, "document")}.</p>'
    )


def _tables(evaluation: Evaluation) -> Iterator[str]:
    for measure in MEASURES:
        reach = 1.1 * max(_extent(one.difference[measure], evaluation.margin) for one in evaluation.stages.values())
        rows = "".join(_row(stage, one, measure, reach, evaluation) for stage, one in evaluation.stages.items())
        name = escape(metric_name(measure))
        head = "".join(
            f'<th scope="col"{" class=number" if number else ""}>{cell}</th>'
            for cell, number in (("Stage", 0), ("FP32", 1), ("INT8", 1), ("Difference, points", 1), ("95% interval", 0))
        )
        yield (
            f'<h3>{name}</h3><div class="scroll" role="region" aria-label="{name}" tabindex="0">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )


def _row(stage: str, scores: StageScores, measure: str, reach: float, evaluation: Evaluation) -> str:
    difference = scores.difference[measure]
    name = f'<th scope="row">{STAGE_NAMES[stage]}<small>{_told(stage, evaluation)}</small></th>'
    fp32 = _number(scores.fp32[measure], measure)
    if stage == BM25:  # no model takes part
        return f'<tr>{name}{fp32}<td class="number">–</td><td class="number">–</td><td></td></tr>'
    margin = evaluation.margin if measure == NDCG else None
    return (
        f"<tr>{name}{fp32}{_number(scores.int8[measure], measure)}"
        f'<td class="number">{signed_points(difference.value)}<small>{interval_points(difference)}</small></td>'
        f'<td class="bar">{interval_bar(difference, reach, margin=margin)}</td></tr>'
    )


def _told(stage: str, evaluation: Evaluation) -> str:
    return {
        BM25: "words, no model",
        "vectors": "the embedder's queries",
        "fused": "words and vectors by rank",
        RANKED: f"the ranker over the first {evaluation.rerank}{_mixed(evaluation.rank_weight)}",
    }[stage]


def _mixed(weight: float) -> str:
    return "" if weight == 1 else f", weight {weight:g} beside the fused scores"


def _number(interval: Interval, measure: str) -> str:
    bounds = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return f'<td class="number">{score(interval.value, measure)}<small>{bounds}</small></td>'


def _extent(interval: Interval, margin: float) -> float:
    return max(abs(interval.low), abs(interval.high), 1.5 * margin)


def _facts(evaluation: Evaluation) -> dict[str, str]:
    facts = {
        f"{escape(model)}, {precision}": user_text(release)
        for model, releases in evaluation.models.items()
        for precision, release in releases.items()
    }
    facts["Index"] = f"{user_text(evaluation.index)} <code>{escape(evaluation.index_sha256[:16])}…</code>"
    if evaluation.left_out:
        facts["Left out"] = f"{count(evaluation.left_out, 'query')} without a relevant document"
    if evaluation.unknown_documents:
        facts["Not in the index"] = f"{count(evaluation.unknown_documents, 'relevant document')}, counted as missed"
    return facts
