"""`octavo verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED
from octavo.cli.progress import shown_progress
from octavo.errors import ReleaseError


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="RELEASE | STORE", help="A version, a model, or a store with all its models.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Read every byte of a release, or of all releases in a store, and compare it with its hash.

    Lists everything that is missing, cut, altered or extra, not only the first finding. Nothing is repaired.

    [bold]Examples[/bold]

      octavo verify store/my-model/3
      octavo verify store

    [bold]Exit codes[/bold]

      0 everything is as it was published · 1 problems were found · 2 there is no release
    """
    from octavo.store.release import verify_release

    found: dict[Path, list[dict[str, str]]] = {}
    with shown_progress(as_json) as progress:
        for folder in _folders(path):
            found[folder] = [{"file": one.file, "what": one.what} for one in verify_release(folder, progress)]
    problems = sum(map(len, found.values()))
    if as_json:
        listed = [{"release": folder, "problems": several} for folder, several in found.items()]
        output.emit({"problems": problems, "releases": listed})
    else:
        _print(found)
    if problems:
        raise typer.Exit(REFUSED)


def _folders(path: Path) -> list[Path]:
    """Return the version folders that `path` stands for: all of a store or model, or the one that it names."""
    from octavo.store.names import version_folders
    from octavo.store.release import release_folder
    from octavo.store.versions import models

    if versions := version_folders(path):
        return [path / version for version in versions]
    if path.is_dir() and (known := models(path)):
        return [path / name / version for name in known for version in version_folders(path / name)]
    folder = release_folder(path)
    if not folder.is_dir():
        raise ReleaseError(f"{path}: there is no release here.")
    return [folder]


def _print(found: dict[Path, list[dict[str, str]]]) -> None:
    for folder, problems in found.items():
        if not problems:
            output.line(f"✓ {folder}", style="green")
            continue
        output.line(f"✗ {folder}", style="bold red")
        for problem in problems:
            output.line(f"    {output.printable(problem['file'])}: {problem['what']}")
