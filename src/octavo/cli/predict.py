"""`octavo predict`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import options, output
from octavo.errors import InputError

if TYPE_CHECKING:
    from octavo.store.model import Model


def predict(
    release: options.ReleasePath,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to answer. Without any, lines from stdin.")
    ] = None,
    engine: options.Engine = options.EngineName.AUTO,
    threads: options.Threads = None,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Answer although the certificate is no pass here.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer queries with a release, one by one: the answer, and milliseconds from text to answer.

    Without TEXT, every line of stdin is answered as it comes; on a terminal there is a prompt. A ranker takes a query
    and its documents (on stdin with tabs between them). The release is verified and has to be certified.

    [bold]Examples[/bold]

      octavo predict store/intent "undo the last commit" "list all containers"
      octavo predict store/rank "undo the last commit" "git reset: ..." "tar: ..."
      octavo predict store/intent < queries.txt

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a release that cannot be trusted · 130 interrupted
    """
    from octavo.engines.open import Backend
    from octavo.store.model import load

    backend = Backend(engine.named) if engine.named else None
    with load(release, backend=backend, threads=threads, allow_uncertified=allow_uncertified) as model:
        output.tell(f"{model.release.model} {model.release.version} · {model.engine.engine_id}")
        answers = _answers(model, _items(model, texts))
        _emit(model, answers) if as_json else _print(answers)


def _items(model: Model, texts: list[str] | None) -> Iterator[tuple[str, Any]]:
    """Yield what was typed with the items that it means."""
    from octavo.data.characters import well_formed

    if texts:
        yield from model.task.items_from_arguments([well_formed(text) for text in texts])
        return
    for where, line in _lines():
        yield line, model.task.item_from_line(well_formed(line), where)


def _answers(model: Model, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any, float]]:
    for text, item in items:
        started = time.perf_counter()
        (answer,) = model.predict([item])
        yield text, answer, 1000 * (time.perf_counter() - started)


def _print(answers: Iterable[tuple[str, Any, float]]) -> None:
    from octavo.certify.wording import milliseconds

    for text, answer, took_ms in answers:
        shown = text.replace("\t", "  ")  # of a ranker: a query and its documents
        output.line(output.printable(f"{milliseconds(took_ms):>6} ms  {shown}"))
        for line in answer.line().splitlines():
            output.line(output.printable(f"           {line}"))
        sys.stdout.flush()


def _emit(model: Model, answers: Iterable[tuple[str, Any, float]]) -> None:
    import msgspec

    # Encoded one by one: a million answers in memory are then a few hundred bytes each.
    encoded = [
        msgspec.Raw(msgspec.json.encode({"text": text, **msgspec.to_builtins(answer), "ms": took_ms}))
        for text, answer, took_ms in answers
    ]
    output.emit(
        {
            "model": model.release.model,
            "version": model.release.version,
            "task": model.task.name,
            "engine_id": model.engine.engine_id,
            "answers": encoded,
        }
    )


def _lines() -> Iterator[tuple[str, str]]:
    """Yield the lines of stdin as they come, and where each stands: one answer a line, and a prompt on a terminal."""
    if sys.stdin.isatty():
        yield from (("the line", line) for line in _typed())
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield f"stdin:{number}", line.decode().rstrip("\r\n")
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
