"""`octavo promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.cli import options, services
from octavo.cli.failures import needs_extra


def promote(
    model: services.ModelName,
    version: services.Version,
    store: services.Store = None,
    allow_uncertified: Annotated[
        bool,
        typer.Option("--allow-uncertified", help="Where no service runs: although its certificate is no pass."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Let a version of a model serve, without losing a request.

    The running service loads it beside the old one, verifies every hash, warms it up, checks its golden answers, and
    only then lets it answer; where anything fails, the old one serves on. Where no service runs, `current` in the store
    is moved, for the next one.

    [bold]Examples[/bold]

      octavo promote intent 4
      octavo promote intent 4 --store store

    [bold]Exit codes[/bold]

      0 it serves · 2 it was refused, and why; nothing has changed
    """
    with needs_extra():
        from octavo.serve.offline import promote_in_store

    import msgspec

    running = services.running_service(store)
    if running is not None:
        what = f"{version} is verified and warmed up"
        made = services.changed(running, model, "promote", what, {"version": version})
        services.show_change(made, running, as_json)
        return
    moved = promote_in_store(services.needed_store(store), model, version, allow_uncertified=allow_uncertified)
    services.show_change(msgspec.to_builtins(moved), None, as_json)
