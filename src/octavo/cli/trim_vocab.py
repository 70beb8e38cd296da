"""`octavo trim-vocab`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import shown_progress, shown_wait

if TYPE_CHECKING:
    from octavo.encoder.trim import Trimming
    from octavo.progress import Step


def trim_vocab(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a BERT-family model or encoder.")],
    corpus: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Texts as they will come: .txt, .tsv or .jsonl, also .gz; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write the smaller model to.")],
    as_json: options.AsJson = False,
) -> None:
    """Leave out the tokens that a corpus never uses: the same model with a smaller embedding table.

    Most of a multilingual model is the table with a row for each of its tokens, and most rows are of languages that
    no query is in. Every text of the corpus is cut into the same tokens as before, with the same answers. Of
    a JSON line every text is read: queries, documents and words.

    Single characters, bytes and special tokens always stay, so that other texts become no unknowns, but rare words in
    them are cut into smaller pieces than the model is used to. Give query logs and documents, not only training rows,
    and certify what you make of the model.

    [bold]Example[/bold]

      octavo trim-vocab my-model --corpus queries.txt --out my-smaller-model

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or a vocabulary that cannot be trimmed · 130 interrupted
    """
    with shown_wait("loading torch"), needs_extra():
        from octavo.data.logs import log_bytes
        from octavo.encoder.trim import trim_folder
    with shown_progress(as_json) as progress, progress.step("trim the vocabulary", log_bytes(corpus)) as step:
        made = trim_folder(folder, _texts(corpus, step), out)
    _emit(made) if as_json else _print(made)


def _texts(corpus: list[Path], step: Step) -> Iterator[str]:
    """Yield the text of every line, and every text of every object: queries, documents and words are all read."""
    from octavo.data.logs import read_records

    for record, _source in read_records(corpus, step.advance):
        if isinstance(record, str):
            yield record
            continue
        for value in record.values():
            yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))


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
