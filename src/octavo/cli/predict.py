"""`octavo predict`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.errors import InputError

if TYPE_CHECKING:
    from octavo.store.model import Model
    from octavo.tasks.classify import Classification


def predict(
    release: options.ReleasePath,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]…", help="Queries. Without any, lines from stdin.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to name per query.")] = 3,
    engine: options.Engine = None,
    threads: options.Threads = None,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Answer although the certificate is no pass here.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer queries with a release, one by one: label, confidence, and milliseconds from text to answer.

    Without TEXT, every line of stdin is a query and is answered as it comes; on a terminal there is a prompt.
    The release is verified and has to be certified.

    [bold]Examples[/bold]

      octavo predict store/my-model "undo the last commit" "list all containers"
      octavo predict store/my-model < queries.txt

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a release that cannot be trusted · 130 interrupted
    """
    from octavo.engines.open import Backend
    from octavo.store.model import load

    backend = Backend(engine) if engine else None
    with load(release, backend=backend, threads=threads, allow_uncertified=allow_uncertified) as model:
        output.tell(f"{model.release.model} {model.release.version} · {model.engine.engine_id}")
        answers = _answers(model, texts or _lines(), top)
        _emit(model, answers) if as_json else _print(model, answers)


def _answers(model: Model, texts: Iterable[str], top: int) -> Iterator[tuple[str, Classification, float]]:
    from octavo.data.characters import well_formed

    for text in map(well_formed, texts):
        started = time.perf_counter()
        logits = model.logits([text])
        took_ms = 1000 * (time.perf_counter() - started)
        yield text, model.task.decode(logits, top_k=top)[0], took_ms


def _print(model: Model, answers: Iterable[tuple[str, Classification, float]]) -> None:
    from octavo.certify.wording import milliseconds

    width = max(len(label) for label in model.config.labels)
    for text, answer, took_ms in answers:
        others = ", ".join(f"{label} {score:.1%}" for label, score in list(answer.scores.items())[1:])
        line = f"{answer.label:{width}}  {answer.confidence:6.1%}  {milliseconds(took_ms):>6} ms  {text}"
        output.line(output.printable(line + (f"  ({others})" if others else "")))
        sys.stdout.flush()


def _emit(model: Model, answers: Iterable[tuple[str, Classification, float]]) -> None:
    import msgspec

    # Encoded one by one: a million answers in memory are then a few hundred bytes each.
    encoded = [
        msgspec.Raw(
            msgspec.json.encode(
                {
                    "text": text,
                    "label": answer.label,
                    "confidence": answer.confidence,
                    "scores": answer.scores,
                    "ms": took_ms,
                }
            )
        )
        for text, answer, took_ms in answers
    ]
    output.emit(
        {
            "model": model.release.model,
            "version": model.release.version,
            "engine_id": model.engine.engine_id,
            "answers": encoded,
        }
    )


def _lines() -> Iterator[str]:
    """Yield the lines of stdin as they come: one answer a line, and a prompt on a terminal."""
    if sys.stdin.isatty():
        yield from _typed()
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"stdin:{number}: this line is not UTF-8. Convert it, for example with iconv.") from None


def _typed() -> Iterator[str]:
    output.tell("Type a query and Enter; Ctrl-D ends.")
    while True:
        try:
            # The prompt goes to stderr, so that stdout holds answers only.
            sys.stderr.write("> ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        if not line:
            sys.stderr.write("\n")
            return
        if line.strip():
            yield line.rstrip("\n")
