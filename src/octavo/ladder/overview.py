"""The models of a store on one page. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from octavo.certify.certificate import Certificate, read_certificate
from octavo.certify.overview import OverviewEntry, overview_html
from octavo.errors import ReleaseError
from octavo.store.release import Release, read_manifest
from octavo.store.versions import current, needed_models, versions
from octavo.tasks.registry import NAMES, task_named


def write_overview(store: Path, out: Path, *, reproduce: str, notes: Sequence[str] = ()) -> list[OverviewEntry]:
    """Write a page over the models of a store, which links their reports; return what stands on it.

    Of each model it shows the current version beside its FP32 reference, or the newest where none is current.

    Raises:
        ReleaseError: there are no releases, one is damaged, or the page cannot be written.
    """
    entries = [_entry(store, model, out.parent) for model in needed_models(store)]
    entries.sort(key=lambda entry: (_place(entry.certificates[-1].task), entry.name))
    page = overview_html(entries, title="The search stack", reproduce=reproduce, notes=notes)
    draft = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(page, encoding="utf-8")
        draft.replace(out)
    except OSError as error:
        raise ReleaseError(f"{out}: cannot be written ({error.strerror}).") from error
    return entries


def _place(task: str) -> int:
    """Return where a task comes in the stack; those that this version does not know come last."""
    return NAMES.index(task) if task in NAMES else len(NAMES)


def _entry(store: Path, model: str, beside: Path) -> OverviewEntry:
    now = current(store, model) or versions(store, model)[-1].version
    folder = store / model / now
    manifest = read_manifest(folder)
    shown = [manifest.teacher, now] if manifest.teacher else [now]
    certificates = [_certificate(store / model / version) for version in shown if (store / model / version).is_dir()]
    featured = certificates[-1]
    what = task_named(featured.task).what if featured.task in NAMES else ""
    # Relative, so that the store can be moved with its page; never outside of the page's folder.
    href = os.path.relpath(folder / "report.html", beside)
    chosen = featured.rung if current(store, model) else None
    return OverviewEntry(model, what, Path(href).as_posix(), certificates, chosen)


def _certificate(folder: Path) -> Certificate:
    content = Release(folder, read_manifest(folder)).read("certificate.json")
    return read_certificate(content, f"{folder}/certificate.json")
