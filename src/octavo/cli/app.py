"""The program `octavo`: its verbs, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated, TextIO

import typer

from octavo.cli import output
from octavo.cli.abort import abort
from octavo.cli.build import build
from octavo.cli.canary import canary
from octavo.cli.candidates import candidates
from octavo.cli.certify import certify
from octavo.cli.compress import compress
from octavo.cli.cost import cost
from octavo.cli.demo import demo
from octavo.cli.evaluate import evaluate
from octavo.cli.failures import BROKEN_PIPE, BUG, failure_from
from octavo.cli.finetune import finetune
from octavo.cli.inspect import inspect
from octavo.cli.overview import overview
from octavo.cli.predict import predict
from octavo.cli.promote import promote
from octavo.cli.releases import releases
from octavo.cli.report import report
from octavo.cli.rollback import rollback
from octavo.cli.search import index, query
from octavo.cli.serve import serve
from octavo.cli.shadow import shadow
from octavo.cli.status import status
from octavo.cli.trace import from_log, synth
from octavo.cli.trim_vocab import trim_vocab
from octavo.cli.tune import tune
from octavo.cli.verify import verify
from octavo.cli.version import print_version, version
from octavo.errors import OctavoWarning

DEBUG = "OCTAVO_DEBUG"


def reflowed(text: str) -> str:
    """Join the lines of each paragraph, so that a terminal of any width breaks them; indented ones stay as they are."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(one if one.startswith(" ") else one.replace("\n", " ") for one in paragraphs)


app = typer.Typer(
    name="octavo",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done · 1 the gate said no · 2 bad input · 130 interrupted",
)
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Make a release": (demo, trim_vocab, finetune, compress),
    "Use a release": (predict, build, cost, candidates),
    "Serve a store": (serve, status, promote, rollback, canary, shadow, abort),
    "Check a release": (certify, report, overview, releases, verify, inspect),
    "About": (version,),
}
_GROUPS: dict[str, tuple[str, tuple[Callable[..., None], ...]]] = {
    "search": (
        "Search documents with the releases of a store: index, query, tune, evaluate.",
        (index, query, tune, evaluate),
    ),
    "trace": ("Make a trace of traffic, for octavo cost and octavo build: synth, from-log.", (synth, from_log)),
}
for _panel, _verbs in _PANELS.items():
    for _verb in _verbs:
        app.command(help=reflowed(_verb.__doc__ or ""), rich_help_panel=_panel)(_verb)
for _name, (_what, _verbs) in _GROUPS.items():
    _group = typer.Typer(name=_name, help=_what, no_args_is_help=True, rich_markup_mode="rich")
    for _verb in _verbs:
        _group.command(help=reflowed(_verb.__doc__ or ""))(_verb)
    app.add_typer(_group, rich_help_panel="Search and its traffic")


@app.callback()
def octavo(
    show_version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Fold a fine-tuned BERT search model into INT8, prove that nothing was lost, and use it.

    [bold]Start here[/bold]: the whole story on a sample, offline, in a few minutes

      octavo demo

    Every verb explains itself: octavo compress --help
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; prints a message for whatever goes wrong, and no traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A terminal that cannot show a character gets a '?' instead of an error.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    # A polite end, as by `timeout` or a container's stop, is an interruption: what can be kept is kept.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    debugging = bool(os.environ.get(DEBUG))
    try:
        with warnings.catch_warnings():
            if not debugging:
                warnings.simplefilter("ignore")  # of libraries, for their developers
            warnings.simplefilter("always", OctavoWarning)
            warnings.showwarning = _show_warning
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except SystemExit:
        raise
    except BaseException as error:
        if debugging:
            traceback.print_exc()
        return _failed(error, arguments)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as notes to the user; those of libraries, while debugging, with their place."""
    if issubclass(category, OctavoWarning):
        output.complain(str(message), label="note")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        # Not `app()`: it would print usage errors in its own way, and end on Ctrl-C without a word.
        with command.make_context("octavo", arguments or ["--help"], obj=tuple(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _failed(error: BaseException, arguments: list[str]) -> int:
    failure = failure_from(error)
    with contextlib.suppress(BrokenPipeError):
        output.complain(failure.message, label="" if failure.interrupted else "error")
        if failure.exit_code == BUG and not os.environ.get(DEBUG):
            output.tell(f"Run it again with {DEBUG}=1 to see the traceback, and report it with that.")
        if asks_for_json(arguments):
            output.emit({"error": {"kind": failure.kind, "message": failure.message}})
            sys.stdout.flush()
    return failure.exit_code


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether `--json` was typed; also true where the rest of the line could not be parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _discard_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read our output has left."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
