"""Promotion and rollback where no service runs: `current` in the store is moved, as safely as a service would.

Loads nothing: whether the engine runs here is seen when a service starts. Hashes and certificates are checked.
"""

from __future__ import annotations

from pathlib import Path

from octavo.certify.certificate import read_certificate
from octavo.engines.open import Backend
from octavo.errors import ReleaseError
from octavo.serve.registry import Change
from octavo.store.contents import ReleaseConfig, content_from_bytes
from octavo.store.names import version_folder
from octavo.store.release import open_release
from octavo.store.serving import check_certified
from octavo.store.versions import current, models, set_current, versions
from octavo.types import Verdict


def promote_in_store(store: Path, model: str, version: str, *, allow_uncertified: bool = False) -> Change:
    """Let `current` point to a version that can be trusted.

    Raises:
        ReleaseError: there is no such model or version, it is altered, or it is not certified; nothing has changed.
    """
    old = _current_of(store, model)
    if not allow_uncertified and version_folder(store, model, version).is_dir():
        _check_certified(version_folder(store, model, version))
    set_current(store, model, version)
    return Change(model, old, version, 0.0)


def rollback_in_store(store: Path, model: str, *, allow_uncertified: bool = False) -> Change:
    """Let `current` point to the newest certified version before the one that it points to.

    Raises:
        ReleaseError: there is none, or as `promote_in_store`.
    """
    now = _current_of(store, model)
    if now is None:
        raise ReleaseError(f"{store}/{model}: no version is current. Promote one: octavo promote {model} VERSION")
    older = [
        info.version
        for info in versions(store, model)
        if int(info.version) < int(now) and (info.verdict == Verdict.PASS or allow_uncertified)
    ]
    if not older:
        raise ReleaseError(f"{model} {now}: no older version is certified.")
    return promote_in_store(store, model, older[-1], allow_uncertified=allow_uncertified)


def _current_of(store: Path, model: str) -> str | None:
    if model not in (known := models(store)):
        raise ReleaseError(f"{store} has no model {model!r}. It has: {', '.join(known) or 'none'}.")
    return current(store, model)


def _check_certified(folder: Path) -> None:
    release = open_release(folder)
    config = content_from_bytes(release.read("config.json"), ReleaseConfig, f"{folder}/config.json")
    certificate = read_certificate(release.read("certificate.json"), f"{folder}/certificate.json")
    check_certified(release, config, certificate, Backend(config.backend))
