"""`octavo status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output, services
from octavo.cli.failures import needs_extra

if TYPE_CHECKING:
    from rich.console import RenderableType

    from octavo.serve.running import Running

_EVERY_S = 1.0


def status(
    store: services.Store = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second, until Ctrl-C.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what the running service serves: versions, engines, the last minute's traffic and latencies, trials.

    Latencies are of whole requests, right to 5%. With --json and --watch, one document a line.

    [bold]Examples[/bold]

      octavo status
      octavo status --watch

    [bold]Exit codes[/bold]

      0 shown · 2 no service runs here, or it does not answer
    """
    running = services.needed_service(store)
    if as_json:
        _emit(running, watch)
    elif watch:
        _watch(running)
    else:
        output.show(_looks(running))


def _looks(running: Running) -> RenderableType:
    with needs_extra():
        from octavo.cli.status_tables import status_view
        from octavo.serve.admin_client import status_of

    return status_view(status_of(running), running, output.console().width)


def _watch(running: Running) -> None:
    from rich.live import Live

    with Live(_looks(running), console=output.console(), auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_S)
            live.update(_looks(running), refresh=True)


def _emit(running: Running, watch: bool) -> None:
    with needs_extra():
        from octavo.serve.admin_client import status_of

    if not watch:
        output.emit(status_of(running))
        return
    import sys

    import msgspec

    while True:
        sys.stdout.write(msgspec.json.encode(status_of(running)).decode() + "\n")
        sys.stdout.flush()
        time.sleep(_EVERY_S)
