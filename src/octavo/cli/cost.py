"""`octavo cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.progress import shown_progress

if TYPE_CHECKING:
    from rich.table import Table

    from octavo.ladder.costing import TrafficCost

TRAFFIC = "Traffic"


def cost(
    release: options.ReleasePath,
    trace: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help='JSON lines with "time" and "text" (or "tokens"); octavo trace makes one. Or a query log.',
            rich_help_panel=TRAFFIC,
        ),
    ],
    qps: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", help="Queries per second. Default: the trace's.", rich_help_panel=TRAFFIC),
    ] = None,
    p99_ms: Annotated[
        float,
        typer.Option("--p99-ms", min=0.01, metavar="MS", help="Bound on 99 of 100 answers.", rich_help_panel=TRAFFIC),
    ] = 20.0,
    core_hour: Annotated[
        float, typer.Option(min=0, metavar="PRICE", help="Of a core for an hour.", rich_help_panel=TRAFFIC)
    ] = 0.04,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The fine-tuned model, to measure PyTorch FP32 (needs torch). Default: its share in the certificate.",
            rich_help_panel=options.RUNNING,
        ),
    ] = None,
    max_batch_tokens: Annotated[
        int, typer.Option(min=1, metavar="TOKENS", help="A core takes at once.", rich_help_panel=options.RUNNING)
    ] = 1024,
    budget: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Bound on measuring.", rich_help_panel=options.RUNNING),
    ] = 60.0,
    as_json: options.AsJson = False,
) -> None:
    """Say what traffic costs: core-hours and money for 100 million queries, and the share saved against FP32.

    Replays the trace through the release and its FP32 reference in every engine, one core each, in turns. How many
    cores keep the bound on p99 is then simulated from the times that were measured: queries come when the trace says,
    whether or not the ones before were answered.

    [bold]Examples[/bold]

      octavo trace synth --out trace.jsonl --qps 200
      octavo cost store/my-model --trace trace.jsonl --teacher teacher --core-hour 0.04

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a release that cannot be trusted · 130 interrupted
    """
    from octavo.ladder.costing import traffic_cost

    with shown_progress(as_json) as progress:
        made = traffic_cost(
            release,
            trace,
            teacher=teacher,
            qps=qps,
            p99_ms=p99_ms,
            core_hour=core_hour,
            max_batch_tokens=max_batch_tokens,
            budget_s=budget,
            progress=progress,
        )
    output.emit(made) if as_json else _show(made)


def _show(made: TrafficCost) -> None:
    from octavo.certify.wording import count, milliseconds, percent
    from octavo.ladder.costing import ENGINE, TORCH

    output.line()
    output.show(_table(made))
    output.line()
    for saved in made.saved.values():
        what = "PyTorch FP32" if saved.baseline == TORCH else saved.baseline.replace("_", " ")
        bounds = f"{percent(saved.batched.low, 1)} to {percent(saved.batched.high, 1)}"
        source = ", by the certificate" if saved.is_certified else ""
        output.line(
            f"saved against {what}: {percent(saved.batched.value, 1)} in batches ({bounds}), "
            f"{percent(saved.alone.value, 1)} alone{source}",
            style="bold",
        )
    release = made.engines[ENGINE]
    if release.cores is None:
        output.line(f"No number of cores keeps 99 of 100 answers within {milliseconds(made.p99_bound_ms)} ms here.")
    else:
        at = f"{count(release.cores, 'core')} at {made.qps:,.0f} queries a second"
        busy = percent(release.utilisation or 0.0)
        output.line(f"{at}: p99 {milliseconds(release.p99_ms or 0.0)} ms, busy {busy} of the time (simulated)")
    output.line(
        f"{count(made.queries, 'query')} of {made.trace}: {made.mean_tokens:.1f} tokens in the mean, "
        f"{percent(made.repeats)} had come before",
        style="dim",
    )
    for note in made.notes:
        output.line(note, style="dim")


def _table(made: TrafficCost) -> Table:
    from rich import box
    from rich.table import Table

    from octavo.certify.wording import milliseconds

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    bound = milliseconds(made.p99_bound_ms)
    table.add_column("engine\non one core", no_wrap=True)
    for header in (
        "ms\nalone",
        "ms a query\nin 32s",
        "core-hours\nalone",
        "for 100 M\nin 32s",
        f"at p99\n≤ {bound} ms",
        f"money\n≤ {bound} ms",
        f"cores\n≤ {bound} ms",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for name, one in made.engines.items():
        hours = one.core_hours_per_100m
        table.add_row(
            one.engine_id if name == "engine" else name.replace("_", " "),
            milliseconds(one.ms_alone),
            milliseconds(one.ms_batched),
            *(_amount(hours[kind]) for kind in ("alone", "batched", "at_bound")),
            _amount(one.money_per_100m["at_bound"]),
            "–" if one.cores is None else f"{one.cores:,}",
        )
    return table


def _amount(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 99.5 else f"{value:,.2f}"
