"""`octavo inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress

if TYPE_CHECKING:
    from octavo.engines.plan_layers import PlanLayer
    from octavo.store.plans import BuiltPlan


def inspect(
    release: options.ReleasePath,
    target: Annotated[
        str, typer.Option(metavar="SM", help="Compute capability to build for: sm75 for a T4, sm80 for an A100.")
    ] = "sm75",
    as_json: options.AsJson = False,
) -> None:
    """Build a release for a GPU that need not be here, and show which kernels TensorRT would run.

    Every product of the encoder must be INT8 and every attention one fused kernel; a node of the graph that prevents
    it is named. This is structure, read off the plan: speed and numbers are known once a GPU has run it. Needs the
    package tensorrt-rtx, and no GPU.

    [bold]Examples[/bold]

      octavo inspect store/my-model --target sm75
      octavo inspect store/my-model --target sm80 --json

    [bold]Exit codes[/bold]

      0 structure verified · 1 something is blocked · 2 bad input, or a package is missing
    """
    with needs_extra():
        from octavo.store.plans import build_release_plan
        from octavo.store.release import open_release

        with shown_progress(as_json) as progress:
            opened = open_release(release, progress)
            plan = build_release_plan(opened, target, progress=progress)
    if as_json:
        output.emit({"release": opened.folder, **_document(plan)})
    else:
        _show(plan)
    if not plan.is_verified:
        raise typer.Exit(REFUSED)


def _document(plan: BuiltPlan) -> dict[str, Any]:
    structure = plan.structure
    return {
        "target": plan.target,
        "builder": plan.builder,
        "label": _label(plan),
        "encoder_layers": structure.encoder_layers,
        "int8_gemms": structure.int8_gemms,
        "fused_mha": structure.fused_mha,
        "float_gemms": structure.float_gemms,
        "blocked": structure.blocked,
        "overflow": plan.overflow,
        "refused": plan.refused,
        "layers": structure.layers,
    }


def _label(plan: BuiltPlan) -> str:
    return "structure verified" if plan.is_verified else "blocked"


def _show(plan: BuiltPlan) -> None:
    from rich.table import Table

    structure = plan.structure
    table = Table("kernel", "for", "reads", "writes", "node", box=None, pad_edge=False)
    for layer in structure.layers:
        if layer.kind != "other" and layer.profile == structure.layers[-1].profile:
            table.add_row(layer.name, layer.kind, _types(layer.inputs), _types(layer.outputs), _first(layer))
    if structure.layers:
        output.show(table)
        output.line()
    output.line(f"{_label(plan)} for {plan.target}, by {plan.builder}; nothing was run on a GPU", style="bold")
    output.line(f"encoder layers  {structure.encoder_layers}")
    output.line(f"INT8 GEMMs      {structure.int8_gemms}")
    output.line(f"fused MHA       {structure.fused_mha}")
    output.line(f"float GEMMs     {', '.join(structure.float_gemms) or 'none'}")
    for one in structure.blocked:
        output.line(f"✗ {output.printable(one.node)} blocks {output.printable(one.blocks)}: {one.reason}.", style="red")
    for overflow in plan.overflow:
        output.line(f"✗ {overflow}: fp16 ends at 65,504.", style="red")
    if plan.refused:
        output.line(f"✗ {output.printable(plan.refused)}", style="red")


def _types(types: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(types))


def _first(layer: PlanLayer) -> str:
    return output.printable(next(iter(layer.nodes), ""))
