"""`octavo compress`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress, shown_wait


def compress(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE.toml | TEACHER", help="A recipe, or the folder (or hub id) of a fine-tuned model."
        ),
    ],
    train: Annotated[
        Path | None, typer.Option(help="Rows to calibrate and train on.", rich_help_panel=options.ROWS)
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Rows that choose.", rich_help_panel=options.ROWS)] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Held-out rows that the certificate is decided on.", rich_help_panel=options.ROWS),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="Query log (.txt, .tsv or .jsonl, also .gz); may be repeated.", rich_help_panel=options.ROWS),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classify, tag, embed or rank. Default: what the teacher's folder says.",
            rich_help_panel=options.ROWS,
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Where releases go. Default: ./store.", rich_help_panel=options.RELEASE)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Name in the store. Default: the teacher's folder.", rich_help_panel=options.RELEASE),
    ] = None,
    engine: Annotated[
        options.EngineName,
        typer.Option(
            help="Engine that will serve, and is certified. auto: native where it is installed, else openvino.",
            rich_help_panel=options.RELEASE,
        ),
    ] = options.EngineName.AUTO,
    margin: options.Margin = None,
    margin_reason: Annotated[
        str | None,
        typer.Option(help="Why this margin, for the report.", metavar="SENTENCE", rich_help_panel=options.GATE),
    ] = None,
    timing_s: options.TimingSeconds = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs of KD-QAT; 0 only calibrates. Default: 3.", rich_help_panel=options.TRAINING),
    ] = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Also train the FP32 model as long, to tell training from quantization.",
            rich_help_panel=options.TRAINING,
            show_default=False,
        ),
    ] = None,
    trim_vocabulary: Annotated[
        bool | None,
        typer.Option(
            "--trim-vocabulary",
            help="Drop tokens that neither training rows nor query logs use.",
            rich_help_panel=options.TRAINING,
            show_default=False,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=3,
            metavar="TOKENS",
            help="Tokens after which a text is cut. Default: 128.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    seed: options.Seed = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a fine-tuned model INT8, prove on held-out rows that it is as good, and publish it.

    Calibrates, trains under distillation from the teacher, measures accuracy and speed on the engine that will
    serve, and lets the store's `current` point to the best rung that passes. Ctrl-C keeps what was trained; the
    same command goes on from there.

    [bold]Examples[/bold]

      octavo compress recipe.toml
      octavo compress my-model --train train.jsonl --dev dev.jsonl --test test.jsonl

    [bold]Exit codes[/bold]

      0 a rung passed and is current · 1 none passed, `current` was left alone · 2 bad input · 130 interrupted
    """
    with shown_wait("loading torch"), needs_extra():
        from octavo.cli import outcome
        from octavo.cli.recipes import Overrides, recipe_from
        from octavo.engines.open import Backend
        from octavo.ladder.compress import compress as climb
    recipe = recipe_from(
        source,
        Overrides(
            train=train,
            dev=dev,
            test=test,
            unlabelled=tuple(unlabelled or ()),
            task=task,
            store=store,
            model=model,
            margin_points=margin,
            margin_reason=margin_reason,
            timing_s=timing_s,
            epochs=epochs,
            control=control,
            trim_vocabulary=trim_vocabulary,
            max_length=max_length,
            seed=seed,
        ),
    )
    backend = Backend(engine.named) if engine.named else None
    with shown_progress(as_json) as progress:
        made = climb(recipe, progress=progress, backend=backend, reproduce=shlex.join(["octavo", *context.obj]))
    outcome.emit_compression(made) if as_json else outcome.show_compression(made, recipe)
    if made.chosen is None:
        raise typer.Exit(REFUSED)
