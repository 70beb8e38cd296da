"""`octavo finetune`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress, shown_wait
from octavo.errors import Interrupted


def finetune(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="Folder or hub id of a BERT-family encoder.")],
    train: Annotated[Path, typer.Option(help="Rows to train on.", rich_help_panel=options.ROWS)],
    dev: Annotated[Path, typer.Option(help="Rows that choose the epoch.", rich_help_panel=options.ROWS)],
    out: Annotated[Path, typer.Option(help="Folder to write the fine-tuned model to.")],
    task: options.TaskName = "classify",
    epochs: Annotated[int, typer.Option(min=1, rich_help_panel=options.TRAINING)] = 6,
    learning_rate: Annotated[float, typer.Option(min=1e-9, max=1.0, rich_help_panel=options.TRAINING)] = 3e-4,
    batch_size: Annotated[int, typer.Option(min=1, metavar="ROWS", rich_help_panel=options.TRAINING)] = 32,
    max_length: Annotated[int, typer.Option(min=3, metavar="TOKENS", rich_help_panel=options.TRAINING)] = 128,
    seed: Annotated[int, typer.Option(min=0, rich_help_panel=options.TRAINING)] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune an encoder for a task: a teacher, for those who have none.

    Keeps the epoch that is best on --dev and writes a Hugging Face folder. Ctrl-C keeps what was trained; the
    same command goes on from there.

    [bold]Examples[/bold]

      octavo finetune all-MiniLM-L6-v2 --train train.jsonl --dev dev.jsonl --out teacher
      octavo finetune all-MiniLM-L6-v2 --task rank --train lists.jsonl --dev dev-lists.jsonl --out ranker

    [bold]Rows[/bold]

      classify  {"text": "...", "label": "..."}
      tag       {"tokens": ["...", ...], "tags": ["O", "B-place", ...], "intent": "..." (optional)}
      embed     {"query": "...", "document": "..."}, or a BEIR folder's qrels/train.tsv
      rank      {"query": "...", "documents": ["...", ...], "relevance": [1, 0, ...]}

    [bold]Exit codes[/bold]

      0 done · 2 bad input · 130 interrupted
    """
    with shown_wait("loading torch"), needs_extra():
        from octavo.distill.finetune import finetune as tune
        from octavo.distill.trainer import Plan
        from octavo.encoder.folder import read_folder
        from octavo.tasks.registry import task_named
    kind = task_named(task)
    folder = read_folder(encoder)
    plan = Plan(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    try:
        with shown_progress(as_json) as progress:
            made = tune(folder, kind, train, dev, out, plan, max_length, progress)
    except KeyboardInterrupt:
        raise Interrupted("Stopped. What was trained is kept; run the same command again to go on.") from None
    training = made.training
    best = training.dev_scores[training.best_epoch]
    if as_json:
        output.emit(
            {
                "folder": made.folder,
                "task": made.task.name,
                "dev_score": best,
                "best_epoch": training.best_epoch,
                "dev_scores": training.dev_scores,
            }
        )
        return
    output.line(f"{best:.2%} on the dev rows after epoch {training.best_epoch}.", style="bold")
    output.line(f"model  {made.folder}")
    files = shlex.join(["--train", str(train), "--dev", str(dev), "--test"])
    output.line(f"next   octavo compress {shlex.quote(str(made.folder))} {files} …")
