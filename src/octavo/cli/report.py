"""`octavo report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options, output


def report(
    release: options.ReleasePath,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a copy of it there.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Verify a release and print where its report is: one HTML page with every number and its interval.

    Nothing is opened unless asked for. The page loads nothing from other hosts.

    [bold]Examples[/bold]

      octavo report store/my-model --open
      octavo report store/my-model/2 --out report.html

    [bold]Exit codes[/bold]

      0 done · 2 there is no such release, or it cannot be trusted
    """
    from octavo.store.release import open_release

    opened = open_release(release)
    content = opened.read("report.html")
    page = opened.folder / "report.html"
    if out:
        output.write_file(out, content)
        page = out
    output.emit({"report": page}) if as_json else output.line(str(page))
    if show:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            output.tell("No browser could be started here; open the page yourself.")
