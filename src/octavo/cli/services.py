"""The service that a verb speaks to: options that such verbs share, and finding it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_wait
from octavo.errors import InputError, ReleaseError

if TYPE_CHECKING:
    from octavo.serve.running import Running

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Name in the store.")]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="Of the model, such as 3 (octavo releases lists them).")
]
Store = Annotated[
    Path | None, typer.Option(metavar="STORE", help="Needed where several services run here, or none does.")
]


def running_service(store: Path | None) -> Running | None:
    """Return the service that runs here for a store, or the only one for any; None where none does.

    Raises:
        InputError: services of several stores run, and none was named.
    """
    from octavo.serve.running import running_services

    found = running_services(store)
    stores = sorted({one.store for one in found})
    if len(stores) > 1:
        raise InputError(f"Services of several stores run here. Name one: --store {' | '.join(stores)}")
    return found[-1] if found else None


def needed_service(store: Path | None) -> Running:
    """Return the service that runs here. Raises ReleaseError where none does."""
    running = running_service(store)
    if running is None:
        of = f" for {store}" if store else ""
        raise ReleaseError(f"No service of yours runs here{of}. Start one: octavo serve {store or 'STORE'}")
    return running


def needed_store(store: Path | None) -> Path:
    """Return the store that was named. Raises InputError where none was."""
    if store is None:
        raise InputError("No service of yours runs here. To change the store itself, name it: --store STORE")
    return store


def changed(running: Running, model: str, verb: str, what: str, body: Any = None) -> Any:
    """Have the service change a model, as `admin_client.change`, and show that `what` is being waited for."""
    with needs_extra():
        from octavo.serve.admin_client import change

    with shown_wait(f"{model}: {what}"):
        return change(running, model, verb, body)


def show_change(change: dict[str, Any], running: Running | None, as_json: bool) -> None:
    """Print what became of a swap."""
    if as_json:
        output.emit({**change, "pid": running.pid if running else None})
        return
    model, old, new = change["model"], change["old"], change["new"]
    if running is None:
        before = f" (it was {old})" if old else ""
        output.line(f"{model}: current is {new}{before}. No service runs; one that starts will serve it.")
    elif old == new:
        output.line(f"{model}: {new} serves already.")
    else:
        output.line(f"{model}: {new} serves{f' in place of {old}' if old else ''} ({change['seconds']:.1f} s)")
