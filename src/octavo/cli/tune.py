"""`octavo search tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress
from octavo.cli.search import AllowUncertified, IndexPath, Queries, Ranker, Rerank, StoreOption, Versions, versions_from
from octavo.errors import InputError
from octavo.search import RERANK

if TYPE_CHECKING:
    from rich.table import Table

    from octavo.search.settings import Tuned


def tune(
    index: IndexPath,
    queries: Queries,
    qrels: Annotated[Path, typer.Option(metavar="FILE", help="Judgements of development queries: qrels/dev.tsv.")],
    store: StoreOption = None,
    rerank: Rerank = RERANK,
    ranker: Ranker = None,
    version_of: Versions = None,
    threads: options.Threads = None,
    allow_uncertified: AllowUncertified = False,
    as_json: options.AsJson = False,
) -> None:
    """Find out how much the ranker should have to say, on development queries, and keep it with the index.

    The order of the first documents is that of (1 − w) · fused + w · ranker, each spread over 0 to 1 within the list.
    Of w = 0, 0.1, … 1 the one with the highest nDCG@10 is kept, of equal ones the smallest; at 0 nothing is ranked.
    serve, query and evaluate go by it. Judge the outcome on other queries: octavo search evaluate.

    [bold]Example[/bold]

      octavo search tune index --queries beir/queries.jsonl --qrels beir/qrels/dev.tsv

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or an index or release that cannot be trusted · 130 interrupted
    """
    with needs_extra():
        from octavo.search.index import open_index
        from octavo.search.judged import read_judged
        from octavo.search.pairs import pairs_of
        from octavo.search.settings import keep_tuned
        from octavo.search.tuning import tune as tuned
    judged = read_judged(queries, qrels)
    named = versions_from(version_of)
    with shown_progress(as_json) as progress:
        opened = open_index(index, progress)
        embedding, ranking = pairs_of(opened, store, named, ranker=ranker)
        if ranking is None:
            raise InputError(f"{index}: its store has no ranker, and there is nothing to tune.")
        made = tuned(
            opened,
            judged,
            embedding.int8,
            ranking.int8,
            rerank=rerank,
            threads=threads,
            allow_uncertified=allow_uncertified,
            progress=progress,
        )
        file = keep_tuned(opened.folder.parent, made)
    output.emit({"file": file, "tuned": made}) if as_json else _show(made, file)


def _show(made: Tuned, file: Path) -> None:
    from octavo.certify.wording import count

    output.line()
    output.show(_table(made))
    output.line()
    meaning = {0.0: "nothing is ranked", 1.0: "the ranker alone"}.get(
        made.weight, f"{made.ranker} beside the fused scores"
    )
    output.line(f"weight {made.weight:g}: {meaning}", style="bold")
    output.line(
        f"{count(made.queries, 'judged query')} of development, the first {made.rerank} documents of each. "
        "What it is worth, other queries say: octavo search evaluate",
        style="dim",
    )
    output.line(f"kept     {file}")


def _table(made: Tuned) -> Table:
    from rich import box
    from rich.table import Table

    from octavo.certify.wording import interval_points, signed_points

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for header in ("weight", "nDCG@10", "− fused, points", ""):
        table.add_column(header, justify="right", no_wrap=True)
    for one in made.tried:
        chosen = one.weight == made.weight
        gain = f"{signed_points(one.gain.value)}  {interval_points(one.gain)}"
        cells = (f"{one.weight:g}", f"{100 * one.ndcg.value:.2f}", gain, "kept" if chosen else "")
        table.add_row(*cells, style="bold" if chosen else None)
    return table
