"""`octavo overview`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options, output


def overview(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder that releases were published to.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page. Default: overview.html in the store.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write one page over every model of a store: verdict, loss, speed and cost, with links to their reports.

    [bold]Example[/bold]

      octavo overview store

    [bold]Exit codes[/bold]

      0 done · 2 there is no such store, or a release is damaged
    """
    from octavo.ladder.overview import write_overview

    page = out or store / "overview.html"
    entries = write_overview(store, page, reproduce=shlex.join(["octavo", *context.obj]))
    if as_json:
        output.emit({"overview": page, "models": [entry.name for entry in entries]})
    else:
        output.line(str(page))
