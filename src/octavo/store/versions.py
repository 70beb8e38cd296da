"""What is in a store, and which version of a model is current."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ReleaseError
from octavo.store import locks
from octavo.store.names import CURRENT, VERSION, model_folder, version_folder, version_folders
from octavo.store.release import Release, open_release, read_manifest

_TEMPORARY = f".{CURRENT}-"


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One line of a listing. `note` says what is wrong where the release cannot be read; "" where it can."""

    model: str
    version: str
    is_current: bool
    rung: str | None = None
    verdict: str | None = None
    created: str | None = None
    note: str = ""


def models(store: str | Path) -> list[str]:
    """Return the models that have at least one version.

    Raises:
        ReleaseError: the store is missing or cannot be listed.
    """
    try:
        children = sorted(Path(store).iterdir())
    except FileNotFoundError as error:
        raise ReleaseError(
            f"{store}: this store cannot be listed, as there is no such folder (looked from {Path.cwd()}). "
            "A store is the folder that octavo compress --store names."
        ) from error
    except OSError as error:
        raise ReleaseError(f"{store}: this store cannot be listed ({error.strerror}).") from error
    return [child.name for child in children if _is_model_name(child.name) and version_folders(child)]


def needed_models(store: str | Path) -> list[str]:
    """Return what `models` does, of a store that has some.

    Raises:
        ReleaseError: as `models`, or there is none; says where the store is if this is one model of it.
    """
    found = models(store)
    if not found:
        check_is_no_model(store)
        raise ReleaseError(f"{store}: there are no releases here. `octavo compress … --store {store}` makes some.")
    return found


def check_is_no_model(store: str | Path) -> None:
    """Raise ReleaseError where a folder that should be a store is that of one model."""
    if version_folders(Path(store)):
        raise ReleaseError(f"{store} is one model. Name the store that it is in: {Path(store).parent}")


def versions(store: str | Path, model: str) -> list[VersionInfo]:
    """Return the versions of a model, oldest first, with rung and verdict where they can be read.

    Reads manifests and certificates only; a broken release is listed with a note and raises nothing.

    Raises:
        ReleaseError: the name is not valid.
    """
    folder = model_folder(store, model)
    try:
        now = current(store, model)
    except ReleaseError:
        now = None
    return [_info(folder, model, version, version == now) for version in version_folders(folder)]


def current(store: str | Path, model: str) -> str | None:
    """Return the version that `current` points to; None where there is no such link.

    Raises:
        ReleaseError: the name is not valid, or the link points to something that is no version.
    """
    link = model_folder(store, model) / CURRENT
    if not link.is_symlink():
        return None
    target = str(link.readlink())
    if not VERSION.fullmatch(target):
        raise ReleaseError(f"{link}: points to {target!r} and not to a version beside it. Set it again.")
    return target


def set_current(store: str | Path, model: str, version: str) -> Release:
    """Make a version current (a roll-out or a rollback) and return it. It is verified first.

    Raises:
        ReleaseError: there is no such version, or it is damaged; `current` then stays as it was.
    """
    folder = version_folder(store, model, version)
    if not folder.is_dir():
        there = ", ".join(version_folders(folder.parent)) or "none"
        raise ReleaseError(f"{model} has no version {version}. There are: {there}.")
    release = open_release(folder)
    point_current(folder.parent, version)
    return release


def point_current(folder: Path, version: str) -> None:
    """Let `current` in the model folder point to `version`, in one step: no reader ever finds it missing.

    Raises:
        ReleaseError: the link cannot be made.
    """
    temporary = folder / f"{_TEMPORARY}{secrets.token_hex(4)}"
    try:
        with locks.turn(folder) as locked:
            if locked:
                # With the turn in our hands, any temporary link left here belongs to a process that died.
                _remove_temporary(folder)
            try:
                temporary.symlink_to(version)
                temporary.replace(folder / CURRENT)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReleaseError(f"{folder / CURRENT}: cannot point to {version} ({error.strerror}).") from error


def _remove_temporary(folder: Path) -> None:
    for child in list(folder.iterdir()):
        if child.name.startswith(_TEMPORARY) and child.is_symlink():
            with suppress(OSError):
                child.unlink()


def _info(folder: Path, model: str, version: str, is_current: bool) -> VersionInfo:
    try:
        manifest = read_manifest(folder / version)
        # Only the certificate is verified, as it is read: hashing every model would make a listing slow.
        certificate = Release(folder / version, manifest).read_json("certificate.json")
    except ReleaseError as error:
        return VersionInfo(model, version, is_current, note=str(error))
    verdict = certificate.get("verdict")
    shown = verdict if isinstance(verdict, str) else None
    return VersionInfo(model, version, is_current, manifest.rung, shown, manifest.created)


def _is_model_name(name: str) -> bool:
    try:
        model_folder("", name)
    except ReleaseError:
        return False
    return True
