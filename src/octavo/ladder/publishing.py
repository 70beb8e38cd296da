"""Writing a certified build into the store, with its report and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from octavo.certify.certificate import Certificate, certificate_json
from octavo.certify.report import report_html
from octavo.ladder.builds import Build, config_of, golden_of
from octavo.ladder.card import model_card
from octavo.ladder.material import Material
from octavo.store.contents import content_bytes
from octavo.store.publish import Draft, new_version
from octavo.text.buckets import Shape


@dataclass(frozen=True, slots=True)
class Certified:
    """A build and what was proved about it."""

    build: Build
    certificate: Certificate

    @property
    def rung(self) -> str:
        """The rung's name."""
        return self.certificate.rung


@dataclass(frozen=True, slots=True)
class Published:
    """Where the releases went: rung → folder, and every rung's certificate with its version filled in."""

    folders: Mapping[str, Path]
    certificates: list[Certificate]


def publish(
    material: Material,
    rungs: Sequence[Certified],
    releases: Sequence[str],
    chosen: str | None,
    *,
    shapes: Sequence[Shape],
    reproduce: str,
    notes: Sequence[str],
) -> Published:
    """Write the rungs named in `releases` as versions, in that order, all or none; `chosen` becomes current.

    The first of `releases` is the FP32 reference that the others name as their teacher.
    """
    recipe = material.recipe
    with ExitStack() as stack:
        drafts = {rung: stack.enter_context(new_version(recipe.store, recipe.model_name)) for rung in releases}
        numbered = [
            msgspec.structs.replace(one.certificate, version=drafts[one.rung].version if one.rung in drafts else "")
            for one in rungs
        ]
        report = report_html(
            numbered, chosen, title=f"{recipe.model_name}: the ladder", reproduce=reproduce, notes=notes
        ).encode()
        for one, certificate in zip(rungs, numbered, strict=True):
            if one.rung in drafts:
                draft = drafts[one.rung]
                _write(draft, material, one.build, shapes)
                draft.write("certificate.json", certificate_json(certificate))
                draft.write("report.html", report)
                draft.write("README.md", model_card(recipe, certificate, example=material.task.example).encode())
        folders = {
            rung: draft.commit(
                task=material.task.name,
                rung=rung,
                variants=next(one.build.variants for one in rungs if one.rung == rung),
                teacher=None if rung == releases[0] else drafts[releases[0]].version,
                make_current=rung == chosen,
            )
            for rung, draft in drafts.items()
        }
    return Published(folders, numbered)


def _write(draft: Draft, material: Material, build: Build, shapes: Sequence[Shape]) -> None:
    for path, content in build.graphs.items():
        draft.write(path, content)
    draft.write("tokenizer.json", material.base.folder.path / "tokenizer.json")
    draft.write("config.json", content_bytes(config_of(material, build, shapes)))
    draft.write("golden.json", content_bytes(golden_of(material, build)))
