"""`octavo trim-vocab`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress

if TYPE_CHECKING:
    from octavo.encoder.trim import Trimming
    from octavo.progress import Step

_REPORTED_TEXTS = 1_000  # at a time: drawing takes longer than reading


def trim_vocab(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a BERT-family model or encoder.")],
    corpus: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Texts as they will come: .txt (one a line) or .jsonl; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write the smaller model to.")],
    as_json: options.AsJson = False,
) -> None:
    """Leave out the tokens that a corpus never uses: the same model with a smaller embedding table.

    Most of a multilingual model is the table with a row for each of its tokens, and most rows are of languages that
    no query is in. Every text of the corpus is cut into the same tokens as before, with the same answers. Texts that
    differ only in case and outer spaces count as one, and the first is read.

    Single characters, bytes and special tokens always stay, so that other texts become no unknowns, but rare words in
    them are cut into smaller pieces than the model is used to. Give query logs and documents, not only training rows,
    and certify what you make of the model.

    [bold]Example[/bold]

      octavo trim-vocab my-model --corpus queries.txt --out my-smaller-model

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a vocabulary that cannot be trimmed · 130 interrupted
    """
    with needs_extra():
        from octavo.data.rows import read_texts
        from octavo.encoder.trim import trim_folder
    texts = read_texts(corpus)
    with shown_progress(as_json) as progress, progress.step("trim the vocabulary") as step:
        made = trim_folder(folder, _watched(texts, step), out)
    _emit(made) if as_json else _print(made)


def _watched(texts: Iterable[str], step: Step) -> Iterator[str]:
    seen = 0
    for seen, text in enumerate(texts, 1):
        yield text
        if seen % _REPORTED_TEXTS == 0:
            step.advance(_REPORTED_TEXTS)
    step.advance(seen % _REPORTED_TEXTS)


def _emit(made: Trimming) -> None:
    output.emit(
        {
            "folder": made.folder,
            "texts": made.texts,
            "tokens_before": made.tokens_before,
            "tokens_after": made.tokens_after,
            "bytes_before": made.bytes_before,
            "bytes_after": made.bytes_after,
        }
    )


def _print(made: Trimming) -> None:
    before, after = made.bytes_before / 1e6, made.bytes_after / 1e6
    saved = 1 - made.bytes_after / made.bytes_before
    output.line(
        f"{made.tokens_after:,} of {made.tokens_before:,} tokens stay for {made.texts:,} texts: the embedding table "
        f"takes {after:,.1f} MB instead of {before:,.1f} MB ({saved:.0%} less).",
        style="bold",
    )
    output.line(f"model  {made.folder}")
    quoted = shlex.quote(str(made.folder))
    output.line(f"next   octavo compress {quoted} …, or first octavo finetune {quoted} … if it has no head yet")
