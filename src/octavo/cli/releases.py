"""`octavo releases`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import options, output
from octavo.errors import ReleaseError

if TYPE_CHECKING:
    from octavo.cli.tables import ReleaseLine


def releases(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder that releases were published to.")],
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="List this model only.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the releases in a store: which one is current, what each one proved, and how fast it is.

    Reads manifests and certificates only; `octavo verify` reads every byte. A broken release is listed with
    what is wrong.

    [bold]Example[/bold]

      octavo releases store my-model

    [bold]Exit codes[/bold]

      0 done · 2 there is no such store or model
    """
    lines = [line for name in _models(store, model) for line in _lines(store, name)]
    if as_json:
        output.emit({"store": store, "releases": [_as_json(line) for line in lines]})
        return
    from octavo.cli.tables import release_table

    output.show(release_table(lines, output.console().width))
    for line in lines:
        if line.note:
            output.line(f"{line.model}/{line.version}: {line.note}", style="red")


def _models(store: Path, model: str | None) -> list[str]:
    from octavo.store.names import model_folder, version_folders
    from octavo.store.versions import needed_models

    if model is None and version_folders(store):
        raise ReleaseError(f"{store} is one model. Type: octavo releases {store.parent} {store.name}")
    known = needed_models(store)
    if model is None:
        return known
    model_folder(store, model)
    if model not in known:
        raise ReleaseError(f"{store} has no model '{model}'. It has: {', '.join(known)}.")
    return [model]


def _lines(store: Path, model: str) -> list[ReleaseLine]:
    from octavo.certify.certificate import read_certificate
    from octavo.cli.tables import ReleaseLine
    from octavo.store.release import Release, read_manifest
    from octavo.store.versions import versions

    lines = []
    for info in versions(store, model):
        certificate, size_bytes, note = None, None, info.note
        folder = store / model / info.version
        try:
            manifest = read_manifest(folder)
            size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
            content = Release(folder, manifest).read("certificate.json")
            certificate = read_certificate(content, f"{folder}/certificate.json")
        except ReleaseError as error:
            note = note or str(error)
        lines.append(
            ReleaseLine(model, info.version, info.is_current, info.rung, info.created, size_bytes, certificate, note)
        )
    return lines


def _as_json(line: ReleaseLine) -> dict[str, Any]:
    one = line.certificate
    proved = ("verdict", "metric", "engine", "difference", "margin", "rows", "engine_id", "latency_ms", "speedup")
    return {
        "model": line.model,
        "version": line.version,
        "is_current": line.is_current,
        "rung": line.rung,
        "created": line.created,
        "size_bytes": line.size_bytes,
        "note": line.note,
        **{name: getattr(one, name, None) for name in proved},
    }
