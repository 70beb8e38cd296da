"""`octavo rollback`."""

from __future__ import annotations

from octavo.cli import options, services
from octavo.cli.failures import needs_extra


def rollback(model: services.ModelName, store: services.Store = None, as_json: options.AsJson = False) -> None:
    """Let the version of a model serve that did before.

    The running service knows which one that was; after a restart, and where no service runs, it is the newest older
    version that is certified. It is loaded and checked as in a promotion.

    [bold]Example[/bold]

      octavo rollback intent

    [bold]Exit codes[/bold]

      0 it serves · 2 there is none, or it was refused; nothing has changed
    """
    with needs_extra():
        from octavo.serve.offline import rollback_in_store

    import msgspec

    running = services.running_service(store)
    if running is not None:
        made = services.changed(running, model, "rollback", "the version before is verified and warmed up")
        services.show_change(made, running, as_json)
        return
    moved = rollback_in_store(services.needed_store(store), model)
    services.show_change(msgspec.to_builtins(moved), None, as_json)
