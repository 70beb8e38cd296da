"""`octavo candidates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options, output
from octavo.cli.progress import shown_progress


def candidates(
    release: options.ReleasePath,
    judged: Annotated[
        Path, typer.Option(metavar="QRELS", help="Judged queries: a BEIR qrels file (.tsv), or pairs (.jsonl).")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The lists, as JSON lines.")],
    size: Annotated[int, typer.Option(min=2, metavar="DOCUMENTS", help="Documents per query.")] = 16,
    most_queries: Annotated[
        int | None, typer.Option(min=1, metavar="QUERIES", help="Take this many, evenly spaced. Default: all.")
    ] = None,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Search although the certificate is no pass here.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write lists of candidates for a ranker: what an embedder's release finds for each query.

    Each list holds the query's right documents and the nearest others: what a ranker meets in service, and so what it
    should be trained and certified on.

    [bold]Example[/bold]

      octavo candidates store/embed --judged beir/qrels/train.tsv --out lists/train.jsonl

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a release that cannot be trusted
    """
    from octavo.data.candidates import jsonl_from_candidates
    from octavo.ladder.candidates import mined_candidates
    from octavo.store.model import load

    with load(release, allow_uncertified=allow_uncertified) as model, shown_progress(as_json) as progress:
        made = mined_candidates(model, judged, size, most_queries=most_queries, progress=progress)
    output.write_file(out, jsonl_from_candidates(made))
    if as_json:
        output.emit({"lists": out, "queries": len(made.queries), "size": size})
    else:
        output.line(f"{len(made.queries):,} lists of up to {size} documents  {out}")
