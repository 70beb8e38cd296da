"""`octavo abort`."""

from __future__ import annotations

from octavo.cli import options, output, services
from octavo.cli.failures import needs_extra


def abort(model: services.ModelName, store: services.Store = None, as_json: options.AsJson = False) -> None:
    """End the canary or shadow of a model; the version that serves serves on.

    [bold]Example[/bold]

      octavo abort intent

    [bold]Exit codes[/bold]

      0 it is over · 2 nothing was on trial
    """
    with needs_extra():
        from octavo.serve.admin_client import change

    trial = change(services.needed_service(store), model, "abort-trial")
    if as_json:
        output.emit({"model": model, **trial})
    else:
        output.line(f"{model}: {trial['version']} is off trial after {trial['requests']:,} requests.")
