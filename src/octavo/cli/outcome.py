"""What `compress` and `demo` print at the end: the table, the verdict in a sentence, and what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.certify.certificate import Certificate
from octavo.certify.report import featured_certificate, speed_sentence
from octavo.cli import output
from octavo.cli.tables import measure_table, rung_table, verdict_text
from octavo.types import Verdict

if TYPE_CHECKING:
    from octavo.ladder.compress import Compression
    from octavo.recipe import Recipe


def show_compression(made: Compression, recipe: Recipe) -> None:
    """Print the ladder, the verdict, and where everything is."""
    output.line()
    show_rungs(made)
    output.line()
    model = recipe.store / recipe.model_name
    if made.release:
        output.line(f"release  {made.release} (current)")
    output.line(f"report   {report_of(made)}")
    if made.chosen:
        output.line(f'next     octavo predict {model} "…"')
    else:
        output.line("next     read the report; more --epochs or more test rows may decide it")


def show_rungs(made: Compression) -> None:
    """Print the ladder and the verdict."""
    output.show(rung_table(made.certificates, made.chosen, output.console().width))
    _show_measures(featured_certificate(made.certificates, made.chosen))
    output.line()
    output.line(verdict_sentence(made.certificates, made.chosen), style="bold")


def report_of(made: Compression) -> Path:
    """Return the report in the release that went live, or in the last one where none did."""
    return made.release / "report.html" if made.release else made.report


def compression_json(made: Compression) -> dict[str, Any]:
    """Return what was made, for `--json`."""
    return {
        "chosen": made.chosen,
        "release": made.release,
        "report": report_of(made),
        "releases": made.releases,
        "warnings": made.warnings,
        "certificates": made.certificates,
    }


def emit_compression(made: Compression) -> None:
    """Print what was made as JSON."""
    output.emit(compression_json(made))


def verdict_sentence(certificates: list[Certificate], chosen: str | None) -> str:
    """Say which rung passed and how fast it is, or that none did and what the nearest one lacked."""
    if chosen:
        one = next(one for one in certificates if one.rung == chosen)
        return f"{one.rung} passes: {one.reason} {speed_sentence(one)}{_warning(one)}"
    # A rung without a version was left behind on the development rows.
    contenders = [one for one in certificates if one.version and "int8" in one.rung] or certificates
    nearest = max(contenders, key=lambda one: one.difference.low)
    return (
        "No INT8 rung that may go live was proved as good as the teacher; what is current was left alone. "
        f"The nearest is {nearest.rung}: {nearest.reason}{_left_behind(certificates)}"
    )


def show_certificate(certificate: Certificate) -> None:
    """Print one certificate: its line of the table, and the verdict in a sentence."""
    output.line()
    output.show(rung_table([certificate], None, output.console().width))
    _show_measures(certificate)
    output.line()
    output.show(verdict_text(certificate.verdict).append(f": {certificate.reason}", style="not bold default"))
    output.line(speed_sentence(certificate))


def _show_measures(certificate: Certificate) -> None:
    if len(certificate.measures) > 1:
        output.line()
        output.show(measure_table(certificate.measures, output.console().width))


def exit_code(certificate: Certificate) -> int:
    """Return 0 for a pass and 1 for anything else."""
    return 0 if certificate.verdict is Verdict.PASS else 1


def _left_behind(certificates: list[Certificate]) -> str:
    passed = [one.rung for one in certificates if not one.version and "int8" in one.rung and exit_code(one) == 0]
    if not passed:
        return ""
    return f" ({' and '.join(passed)} would pass, but dev rows chose another; choosing on test rows proves nothing.)"


def _warning(certificate: Certificate) -> str:
    faster = certificate.speedup.openvino_fp32
    if faster is None or faster > 1.05:
        return ""
    return " INT8 does not pay on this machine: the FP32 release is at least as fast."
