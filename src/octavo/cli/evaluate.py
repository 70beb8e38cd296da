"""`octavo search evaluate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress
from octavo.cli.search import (
    AllowUncertified,
    IndexPath,
    Queries,
    Ranker,
    RankWeight,
    Rerank,
    StoreOption,
    Versions,
    versions_from,
)
from octavo.errors import InputError
from octavo.search import RERANK

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from octavo.search.evaluate import Evaluation
    from octavo.types import Interval


def evaluate(
    context: typer.Context,
    index: IndexPath,
    queries: Queries,
    qrels: Annotated[Path, typer.Option(metavar="FILE", help="Judgements: qrels/test.tsv of BEIR, or TREC's.")],
    store: StoreOption = None,
    rerank: Rerank = RERANK,
    ranker: Ranker = None,
    rank_weight: RankWeight = None,
    version_of: Versions = None,
    margin: options.Margin = None,
    threads: options.Threads = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page (HTML).")] = None,
    allow_uncertified: AllowUncertified = False,
    as_json: options.AsJson = False,
) -> None:
    """Say how good a search is, stage by stage, in FP32 and in INT8: BM25 alone, vectors alone, fused, ranked.

    INT8 is the current release of each model (or --version-of), FP32 the reference that it was made beside. Measures
    are nDCG@10, MRR@10 and recall@100 with 95% intervals; the difference is paired, query by query.

    [bold]Example[/bold]

      octavo search evaluate index --queries beir/queries.jsonl --qrels beir/qrels/test.tsv --report search.html

    [bold]Exit codes[/bold]

      0 INT8 is non-inferior at the last stage · 1 it is not, or that is undecided · 2 bad input · 130 interrupted
    """
    with needs_extra():
        from octavo.search.evaluate import MARGIN
        from octavo.search.evaluate import evaluate as evaluated
        from octavo.search.index import open_index
        from octavo.search.judged import read_judged
        from octavo.search.pairs import pairs_of
        from octavo.search.settings import weight_of
        from octavo.types import Verdict
    judged = read_judged(queries, qrels)
    named = versions_from(version_of)
    with shown_progress(as_json) as progress:
        opened = open_index(index, progress)
        embedding, ranking = pairs_of(opened, store, named, ranker=ranker, ranks=rerank > 0)
        made = evaluated(
            opened,
            judged,
            embedding,
            ranking,
            rerank=rerank,
            rank_weight=weight_of(opened.tuned, ranking.model if ranking else None, rank_weight),
            margin=MARGIN if margin is None else options.fraction_from_points(margin),
            threads=threads,
            allow_uncertified=allow_uncertified,
            progress=progress,
        )
    if report:
        _write(report, made, shlex.join(["octavo", *context.obj]))
    output.emit(made) if as_json else _show(made, report)
    if list(made.stages.values())[-1].verdict is not Verdict.PASS:
        raise typer.Exit(REFUSED)


def _write(report: Path, made: Evaluation, command: str) -> None:
    from octavo.search.report import evaluation_html

    page = evaluation_html(made, title=Path(made.index).parent.name, reproduce=command)
    draft = report.with_name(f".{report.name}.partial")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(report)
    except OSError as error:
        raise InputError(f"{report}: cannot be written ({error.strerror}).") from error


def _show(made: Evaluation, report: Path | None) -> None:
    from octavo.certify.wording import count

    output.line()
    output.show(_table(made))
    output.line()
    last = list(made.stages.values())[-1]
    output.line(f"{last.verdict}: {last.reason}", style="bold")
    for note in made.notes:
        output.line(note, style="yellow")
    output.line(f"{count(made.queries, 'judged query')}, {count(made.documents, 'document')}", style="dim")
    if made.unknown_documents:
        output.line(f"{count(made.unknown_documents, 'relevant document')} not in the index: counted as missed")
    for model, releases in made.models.items():
        output.line(f"{model}  " + "  ".join(f"{precision}: {told}" for precision, told in releases.items()), "dim")
    if report:
        output.line(f"report  {report}")


def _table(made: Evaluation) -> Table:
    """Return a line per stage and measure."""
    from rich import box
    from rich.table import Table

    from octavo.certify.wording import metric_name
    from octavo.cli.tables import verdict_text
    from octavo.search.evaluate import MEASURES
    from octavo.search.rankings import BM25
    from octavo.tasks.ranking import NDCG

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for header in ("stage", "measure", "FP32", "INT8", "− FP32, points", "verdict"):
        table.add_column(header, justify="left" if header in ("stage", "measure", "verdict") else "right", no_wrap=True)
    for stage, one in made.stages.items():
        for measure in MEASURES:
            name = stage if measure == NDCG else ""
            cells: list[Text | str] = [name, metric_name(measure), _value(one.fp32[measure])]
            if stage != BM25:  # no model takes part there
                cells += [_value(one.int8[measure]), _difference(one.difference[measure])]
                cells += [verdict_text(one.verdict)] if measure == NDCG else []
            table.add_row(*cells)
        table.add_section()
    return table


def _value(interval: Interval) -> Text:
    from rich.text import Text

    bounds = f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"
    return Text.assemble(f"{100 * interval.value:.2f}  ", (bounds, "dim"))


def _difference(interval: Interval) -> Text:
    from rich.text import Text

    from octavo.certify.wording import interval_points, signed_points

    return Text.assemble(f"{signed_points(interval.value)}  ", (interval_points(interval), "dim"))
