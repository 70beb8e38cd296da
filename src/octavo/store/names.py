"""How models and versions are named: `<store>/<model>/<version>/` and the link `<store>/<model>/current`."""

from __future__ import annotations

import re
from pathlib import Path

from octavo.errors import ReleaseError

CURRENT = "current"
VERSION = re.compile(r"[1-9][0-9]{0,8}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def model_folder(store: str | Path, model: str) -> Path:
    """Return the folder of a model.

    Raises:
        ReleaseError: the name is not one that a folder, a URL and a metric label can share.
    """
    if not _MODEL.fullmatch(model) or model == CURRENT:
        raise ReleaseError(
            f"{model!r} is not a model name: use 1 to 64 letters, digits, '.', '_' or '-', starting with "
            f"a letter or digit, and not '{CURRENT}'."
        )
    return Path(store) / model


def version_folder(store: str | Path, model: str, version: str) -> Path:
    """Return the folder of a version.

    Raises:
        ReleaseError: the model's name is not valid, or the version is not a positive integer.
    """
    check_version(version)
    return model_folder(store, model) / version


def check_version(version: str) -> None:
    """Refuse what is not a version.

    Raises:
        ReleaseError: the version is not a positive integer.
    """
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is not a version: versions are the integers from 1.")


def version_folders(folder: Path) -> list[str]:
    """Return the versions in the model folder `folder`, oldest first; [] where there is no such folder."""
    try:
        names = [child.name for child in folder.iterdir() if VERSION.fullmatch(child.name) and child.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ReleaseError(f"{folder}: cannot be listed ({error.strerror}).") from error
    return sorted(names, key=int)
