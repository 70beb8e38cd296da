"""`octavo demo`: the whole search stack on the embedded sample."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import options, output
from octavo.cli.failures import REFUSED, needs_extra
from octavo.cli.progress import shown_progress
from octavo.cli.samples import ENGLISH, TUNING_QRELS, Place, SampleModel, Size
from octavo.errors import InputError, Interrupted, ReleaseError

if TYPE_CHECKING:
    from octavo.distill.trainer import Plan
    from octavo.ladder.compress import Compression

_ADDRESS = "http://127.0.0.1:8000/"  # where octavo serve listens, unless it is told otherwise
_RECIPE = """\
# What `octavo demo` compresses; run it again with: octavo compress {file}
teacher = "{teacher}"
store = "{store}"
model = "{model}"
task = "{task}"
seed = {seed}
max_length = {max_length}

[data]
train = "{train}"
dev = "{dev}"
test = "{test}"

[quantize]
schemes = [{schemes}]
observers = [{observers}]
calibration_rows = {calibration_rows}

[distill]
epochs = {epochs}
schemes = [{trained_schemes}]
batch_size = {batch_size}
control = {control}

[certify]
margin = {margin}
reason = "{reason}"
timing_s = {timing_s}
"""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where everything goes.")] = Path("demo"),
    full: Annotated[
        bool, typer.Option("--full", help="All rows, every observer, the control, more epochs: hours, not minutes.")
    ] = False,
    chinese: Annotated[
        bool, typer.Option("--zh", help="The Chinese stack: job titles (pip install 'octavo\\[demo-zh]').")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Show everything on a sample, offline: a search stack of four models, made INT8, proved, and asked.

    Fine-tunes a model that says what a request is about, one that finds its slots, one that matches it with documents
    and one that ranks those; makes each of them INT8 and certifies it, and indexes the documents, so that they can be
    searched. Takes minutes on two cores. Ctrl-C keeps what was trained; the same command goes on from there.

    [bold]Example[/bold]

      octavo demo --out demo

    [bold]Exit codes[/bold]

      0 every model has an INT8 release that passed · 1 one has none · 2 bad input, or packages are missing ·
      130 interrupted
    """
    with needs_extra():
        from octavo.cli import outcome
        from octavo.ladder.compress import compress  # noqa: F401 - whether it can be imported
        from octavo.ladder.overview import write_overview
    models = _stack(chinese)
    made: dict[str, Compression] = {}
    command = " ".join(["octavo demo", *(["--full"] if full else []), *(["--zh"] if chinese else []), f"--seed {seed}"])
    with shown_progress(as_json) as progress:
        place = Place(out, progress)
        for number, model in enumerate(models, 1):
            progress.say(f"\n{number} of {len(models)}: {model.name} ({model.task}), {model.say}")
            size = model.full if full else model.quick
            made[model.name] = _make(model, size, place, full, seed, command)
        page = place.store / "overview.html"
        notes = sorted({(model.full if full else model.quick).reason for model in models})
        write_overview(place.store, page, reproduce=command, notes=notes)
        index = _index(models, made, place)
    if as_json:
        shown = {name: outcome.compression_json(one) for name, one in made.items()}
        output.emit({"overview": page, "index": index, "models": shown})
    else:
        _show(made, models, place, page, index)
    if any(one.chosen is None for one in made.values()):
        raise typer.Exit(REFUSED)


def _stack(chinese: bool) -> tuple[SampleModel, ...]:
    if not chinese:
        return ENGLISH
    from octavo.cli.samples import CHINESE

    return CHINESE


def _make(model: SampleModel, size: Size, place: Place, full: bool, seed: int, command: str) -> Compression:
    """Fine-tune and compress one model, unless an earlier run trained its teacher already."""
    from octavo.ladder.compress import compress
    from octavo.recipe import read_recipe

    data = place.data(model.name)
    model.write(data, place, full)
    _make_teacher(model, size, place, seed)
    recipe = read_recipe(_write_recipe(model, size, place, seed))
    return compress(recipe, progress=place.progress, reproduce=command)


def _write_recipe(model: SampleModel, size: Size, place: Place, seed: int) -> Path:
    file = place.out / f"{model.name}.toml"
    train, dev, test = (f"data/{model.name}/{name}" for name in model.files)
    content = _RECIPE.format(
        file=file,
        teacher=f"teachers/{model.name}",
        store="store",
        model=model.name,
        task=model.task,
        seed=seed,
        max_length=model.max_length,
        train=train,
        dev=dev,
        test=test,
        schemes=_listed(size.schemes),
        observers=_listed(size.observers),
        calibration_rows=size.calibration_rows,
        epochs=size.kd_epochs,
        trained_schemes=_listed(size.trained_schemes),
        batch_size=model.kd_batch_size,
        control=str(size.control).lower(),
        margin=options.fraction_from_points(size.margin_points),
        reason=size.reason,
        timing_s=size.timing_s,
    )
    file.write_text(content, encoding="utf-8")
    return file


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _make_teacher(model: SampleModel, size: Size, place: Place, seed: int) -> None:
    from octavo.distill.finetune import finetune
    from octavo.distill.trainer import Plan
    from octavo.encoder.folder import read_folder
    from octavo.tasks.registry import task_named

    encoder = model.encoder(place)
    plan = Plan(epochs=size.epochs, learning_rate=size.learning_rate, batch_size=model.batch_size, seed=seed)
    train, dev = (place.data(model.name) / name for name in model.files[:2])
    folder = place.out / "teachers" / model.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if _is_made(folder, _fingerprint(model, plan, [train, dev])):
        place.progress.say(f"The teacher is there from an earlier run: {folder}")
        return
    try:
        finetune(
            read_folder(encoder), task_named(model.task), train, dev, folder, plan, model.max_length, place.progress
        )
    except KeyboardInterrupt:
        raise Interrupted("Stopped. What was trained is kept; run the same command again to go on.") from None


def _is_made(folder: Path, fingerprint: str) -> bool:
    """Return whether `folder` is the teacher with this fingerprint; clear the place for it where it is not.

    Raises:
        InputError: a model is there that no demo made.
    """
    marker = folder.with_name(f".{folder.name}.sha256")
    if marker.exists() and marker.read_text("utf-8") == fingerprint:
        return (folder / "config.json").exists()
    if folder.exists():
        if not marker.exists():
            raise InputError(f"{folder} was not made by this demo, which would replace it. Choose another --out.")
        shutil.rmtree(folder)
    marker.write_text(fingerprint, encoding="utf-8")
    return False


def _fingerprint(model: SampleModel, plan: Plan, files: list[Path]) -> str:
    digest = hashlib.sha256(f"{model.name} {plan} {model.max_length}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _index(models: tuple[SampleModel, ...], made: dict[str, Compression], place: Place) -> Path | None:
    """Index the documents of the embedder's task; return the index, or None where no release may search it."""
    from octavo.search.build import Change, build_index
    from octavo.search.embedder import ReleaseEmbedder, documents_release
    from octavo.store.model import load

    (embedder,) = [model.name for model in models if model.task == "embed"]
    if (matching := made[embedder].release) is None:
        return None
    place.progress.say(f"\nThe documents of {embedder}, to be searched")
    try:
        folder = documents_release(place.store / embedder, by_reference=True)
    except ReleaseError as error:
        place.progress.say(str(error))
        return None
    index = place.out / "index"
    with load(folder) as model:
        change = Change(place.data(embedder) / "corpus.jsonl")
        build_index(index, change, ReleaseEmbedder(model), store=place.store, progress=place.progress)
    for ranking in (made[model.name].release for model in models if model.task == "rank"):
        if ranking is not None:
            _tune(index, matching, ranking, place.data(embedder), place)
    return index


def _tune(index: Path, embedder: Path, ranker: Path, data: Path, place: Place) -> None:
    """Let queries that no model was trained on or is judged by say how much the ranker has to say."""
    from octavo.certify.wording import signed_points
    from octavo.search.index import open_index
    from octavo.search.judged import read_judged
    from octavo.search.settings import keep_tuned
    from octavo.search.tuning import tune

    judged = read_judged(data / "queries.jsonl", data / TUNING_QRELS)
    tuned = tune(open_index(index), judged, embedder, ranker, progress=place.progress)
    keep_tuned(index, tuned)
    gain = next(one.gain for one in tuned.tried if one.weight == tuned.weight)
    place.progress.say(
        f"the ranker's weight is {tuned.weight:g} (octavo search tune): {signed_points(gain.value)} points of nDCG@10 "
        f"over words and vectors alone, on {len(judged.queries):,} queries; at 0 it is left out"
    )


def _show(
    made: dict[str, Compression],
    models: tuple[SampleModel, ...],
    place: Place,
    page: Path,
    index: Path | None,
) -> None:
    from octavo.cli import outcome

    for model in models:
        output.line(f"\n{model.name}", style="bold")
        outcome.show_rungs(made[model.name])
        if (release := made[model.name].release) is not None:
            _answer(model, release)
    output.line("\nTry next:", style="bold")
    first = place.store / models[0].name
    for command in (
        f"octavo releases {place.store}",
        f"octavo predict {first}",
        f"octavo report {first} --open",
        f"octavo compress {place.out / models[0].name}.toml --margin 2 --store elsewhere",
    ):
        output.line(f"  {command}")
    output.line(f"\nAll of it on one page: {page}", style="bold")
    if index is not None:
        output.line(f"Search it: octavo serve {place.store} --index {index}   then open {_ADDRESS}", style="bold")


def _answer(model: SampleModel, release: Path) -> None:
    """Ask the release, and show what it says."""
    from octavo.store.model import load

    with load(release) as opened:
        for question, answer in zip(model.questions, opened.predict(model.questions), strict=True):
            output.line(output.printable(f"  {_question(question)}  →  {answer.line()}"))


def _question(question: Any) -> str:
    return question if isinstance(question, str) else str(question[0])
