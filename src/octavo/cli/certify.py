"""`octavo certify`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress
from octavo.errors import InputError

if TYPE_CHECKING:
    from octavo.certify.certificate import Certificate


def certify(
    context: typer.Context,
    release: options.ReleasePath,
    test: Annotated[Path, typer.Option(help="Held-out rows to decide on.", rich_help_panel=options.ROWS)],
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="An FP32 release, or the folder of a fine-tuned model (needs torch). Default: the FP32 release that "
            "RELEASE was made beside.",
            rich_help_panel=options.GATE,
        ),
    ] = None,
    margin: options.Margin = None,
    timing_s: options.TimingSeconds = 20.0,
    engine: options.Engine = options.EngineName.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write certificate.json and report.html there, and not into the release."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Decide again whether a release is as good as its teacher: on this machine, these rows, this engine.

    Runs teacher and release on the held-out rows, compares them row by row, and measures both for speed. The
    release itself is never changed.

    [bold]Examples[/bold]

      octavo certify store/my-model --test test.jsonl
      octavo certify store/my-model --test new.jsonl --engine onnxruntime --out proof

    [bold]Exit codes[/bold]

      0 pass · 1 fail or inconclusive · 2 bad input · 130 interrupted
    """
    with needs_extra():
        from octavo.engines.open import Backend
        from octavo.ladder.recertify import recertify
        from octavo.types import Verdict

        if out:
            _check_outside_releases(out)
        with shown_progress(as_json) as progress:
            certificate = recertify(
                release,
                test,
                teacher=teacher,
                backend=Backend(engine.named) if engine.named else None,
                margin=None if margin is None else options.fraction_from_points(margin),
                timing_s=timing_s or 20.0,
                progress=progress,
            )
    if out:
        _write(out, certificate, shlex.join(["octavo", *context.obj]))
    _emit_or_show(certificate, out, as_json)
    if certificate.verdict is not Verdict.PASS:
        raise typer.Exit(REFUSED)


def _emit_or_show(certificate: Certificate, out: Path | None, as_json: bool) -> None:
    if as_json:
        output.emit(certificate)
        return
    from octavo.cli.outcome import show_certificate

    show_certificate(certificate)
    if out:
        output.line(f"report  {out / 'report.html'}")


def _check_outside_releases(out: Path) -> None:
    resolved = out.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / "manifest.json").exists():
            raise InputError(f"{out} lies in the release {folder}, which is never changed. Choose another --out.")
    if resolved.exists() and not resolved.is_dir():
        raise InputError(f"{out} is a file. --out names a folder.")


def _write(out: Path, certificate: Certificate, command: str) -> None:
    from octavo.certify.certificate import certificate_json
    from octavo.certify.report import report_html
    from octavo.types import Verdict

    chosen = certificate.rung if certificate.verdict is Verdict.PASS else None
    title = f"{certificate.model} {certificate.version}, certified again"
    page = report_html([certificate], chosen, title=title, reproduce=command)
    for name, content in (("certificate.json", certificate_json(certificate)), ("report.html", page.encode())):
        output.write_file(out / name, content)
