"""`octavo build`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED
from octavo.cli.progress import shown_progress
from octavo.errors import InputError

if TYPE_CHECKING:
    from octavo.ladder.planning import Planned


def build(
    context: typer.Context,
    release: options.ReleasePath,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Texts as users send them: .txt, .tsv or .jsonl, also .gz. Default: the release's golden inputs.",
            rich_help_panel=options.RUNNING,
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=1024,
            metavar="QUERIES",
            help="Queries a call; may be repeated. Default: 1 and 32.",
            rich_help_panel=options.RUNNING,
        ),
    ] = None,
    engine: Annotated[
        options.EngineName,
        typer.Option("--engine", help="Build and measure this one alone.", rich_help_panel=options.RUNNING),
    ] = options.EngineName.AUTO,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="SM",
            help="With --engine tensorrt: build for a GPU that need not be here (sm75, sm80), to see its structure.",
            rich_help_panel=options.RUNNING,
        ),
    ] = None,
    threads: options.Threads = None,
    budget: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Bound on the time that measuring takes, beside building the engines.",
            rich_help_panel=options.RUNNING,
        ),
    ] = 30.0,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="ROWS",
            help="Held-out rows: certify the chosen engine on them, if the release was certified on another one.",
            rich_help_panel=options.GATE,
        ),
    ] = None,
    timing_s: options.TimingSeconds = 20.0,
    as_json: options.AsJson = False,
) -> None:
    """Choose the engine that serves a release fastest on this machine, by measuring all that can run it.

    They run the same batches in turns, of your own texts in the batch sizes that you name. The choice is kept in the
    cache; octavo predict takes it, as does the library, once a certificate covers it. The release is never changed.

    [bold]Examples[/bold]

      octavo build store/my-model --trace queries.txt
      octavo build store/my-model --trace queries.txt --batch 1 --threads 1 --test test.jsonl
      octavo build store/my-model --engine tensorrt --target sm75

    [bold]Exit codes[/bold]

      0 chosen · 1 the chosen engine was certified on ROWS and did not pass, or the structure for SM is blocked ·
      2 bad input · 130 interrupted
    """
    if target is not None:
        _build_for(release, engine, target, as_json)
        return
    from octavo.engines.open import Backend
    from octavo.ladder.planning import plan_engine
    from octavo.types import Verdict

    with shown_progress(as_json) as progress:
        made = plan_engine(
            release,
            trace=trace,
            test=test,
            batch_sizes=tuple(batch or (1, 32)),
            threads=threads,
            backend=Backend(engine.named) if engine.named else None,
            budget_s=budget,
            timing_s=timing_s or 20.0,
            progress=progress,
        )
    _emit(made) if as_json else _show(made, shlex.join(["octavo", *context.obj]), certifies=test is not None)
    if made.certificate and made.certificate.verdict is not Verdict.PASS:
        raise typer.Exit(REFUSED)


def _build_for(release: Path, engine: options.EngineName, target: str, as_json: bool) -> None:
    """Build for a GPU that is elsewhere: all that can be known of it here is structure, as `octavo inspect` has it."""
    from octavo.cli.inspect import inspect

    if engine is not options.EngineName.TENSORRT:
        raise InputError(f"--target {target} names a GPU, and --engine is {engine}. Say: --engine tensorrt.")
    inspect(release, target, as_json)


def _emit(made: Planned) -> None:
    output.emit(
        {
            "plan": made.plan,
            "file": made.file,
            "serves": not made.blocked,
            "certified": made.certified,
            "blocked": made.blocked,
            "certificate": made.certificate,
        }
    )


def _show(made: Planned, command: str, *, certifies: bool) -> None:
    from octavo.cli.tables import plan_table

    plan, traffic = made.plan, made.plan.traffic
    chosen = plan.chosen.name
    output.line()
    output.show(plan_table(plan, output.console().width))
    output.line()
    for one in plan.measured:
        if one.reason:
            output.line(f"{one.name} was not measured: {one.reason}", style="dim")
    output.line(f"{chosen}: {plan.why}", style="bold")
    output.line(_int8_sentence(made))
    texts = "golden inputs of the release" if traffic.trace is None else f"texts of {traffic.trace}"
    lengths = f"{traffic.mean_tokens:.0f} tokens in the mean, {traffic.most_tokens} at most"
    output.line(f"Measured in {plan.rounds} rounds on {traffic.queries:,} {texts}: {lengths}.")
    if traffic.trace is None:
        output.line("Other lengths may choose another engine: give your own texts with --trace.")
    if made.certificate:
        from octavo.cli.outcome import show_certificate

        show_certificate(made.certificate)
    output.line()
    output.line(f"plan     {made.file}")
    output.line(f"serving  {_serving_sentence(made, chosen, command, certifies=certifies)}")


def _int8_sentence(made: Planned) -> str:
    """Say what INT8 is worth here; plainly, where that is nothing."""
    from octavo.certify.wording import times

    plan, chosen = made.plan, made.plan.chosen
    if chosen.precision == "fp32":
        return "This release is FP32."
    if plan.int8_pays is None:
        return "There is no FP32 release to compare with, so whether INT8 pays was not measured."
    ratios = ", ".join(
        f"{times(ratio.median)} {'alone' if size == 1 else f'in {size}s'}" for size, ratio in chosen.times_fp32.items()
    )
    if plan.int8_pays:
        return f"INT8 pays on this machine. Against the FP32 release it is faster by {ratios}."
    return f"INT8 does not pay on this machine: the FP32 release is as fast or faster (INT8 against it: {ratios})."


def _serving_sentence(made: Planned, chosen: str, command: str, *, certifies: bool) -> str:
    if not made.blocked:
        needless = " The release's own certificate covers it: --test was not needed." if certifies else ""
        return f"auto takes {chosen} from now on.{needless if made.certificate is None else ''}"
    settle = f" To settle it: {command} --test ROWS" if made.rows_may_settle else ""
    return f"auto stays as it was. {made.blocked}{settle}"
