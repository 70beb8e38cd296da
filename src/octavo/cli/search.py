"""`octavo search index` and `octavo search query`."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import options, output
from octavo.cli.failures import needs_extra
from octavo.cli.progress import duration, shown_progress
from octavo.errors import InputError
from octavo.search import RERANK

if TYPE_CHECKING:
    from octavo.progress import Progress
    from octavo.search.answers import Result, SearchAnswer
    from octavo.search.build import Built, Change

FIELDS = "Fields of the corpus"
STAGES = "Stages"
_SHOWN_CHARACTERS = 160


class VectorsBy(StrEnum):
    """Which release of the embedder makes the vectors of documents."""

    REFERENCE = "reference"
    CURRENT = "current"


StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="Folder that releases were published to.")]
IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index, or one version of it.")]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="Of the releases. Default: the one that the index was made with."),
]
Ranker = Annotated[
    str | None,
    typer.Option("--ranker", metavar="MODEL", help="Which, where there are several.", rich_help_panel=STAGES),
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--version-of", metavar="MODEL=VERSION", help="Ask this version of a model; may be repeated."),
]
Queries = Annotated[Path, typer.Option(metavar="FILE", help='BEIR\'s queries.jsonl: {"_id", "text"} a line.')]
AllowUncertified = Annotated[
    bool, typer.Option("--allow-uncertified", help="Also take releases that are no pass here.")
]
Rerank = Annotated[
    int,
    typer.Option("--rerank", min=0, max=100, metavar="N", help="Rank the first N documents.", rich_help_panel=STAGES),
]
RankWeight = Annotated[
    float | None,
    typer.Option(
        "--rank-weight",
        min=0.0,
        max=1.0,
        metavar="W",
        help="Of the ranker beside the fused scores; 0: no ranking. Default: as octavo search tune found it, else 1.",
        rich_help_panel=STAGES,
    ),
]
Depth = Annotated[
    int,
    typer.Option(
        "--depth",
        min=1,
        max=1000,
        metavar="N",
        help="Documents that words and vectors recall each.",
        rich_help_panel=STAGES,
    ),
]


def index(
    store: StorePath,
    out: Annotated[Path, typer.Option(metavar="INDEX", help="The index; a new version of it, where there is one.")],
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Documents: .jsonl (BEIR: _id, title, text), .jsonl.gz, .csv or .tsv."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Keep the other documents: add those of the corpus, or replace them by id.")
    ] = False,
    delete: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ids, one a line, to delete first. An update.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Which, where there are several.", rich_help_panel=STAGES)
    ] = None,
    vectors_by: Annotated[
        VectorsBy,
        typer.Option(
            help="reference: the FP32 release, whose vectors stay good for every certified version. current: the one "
            "that answers now, quicker, and good for that one alone.",
            rich_help_panel=STAGES,
        ),
    ] = VectorsBy.REFERENCE,
    id_field: Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=FIELDS, help="Default: _id.")] = None,
    title_field: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=FIELDS, help="Default: title.")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=FIELDS, help="Default: text.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", rich_help_panel=FIELDS, help="Another field to keep; may be repeated."),
    ] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Make an index of documents: BM25 over their words, and vectors by a release of the store.

    The corpus is streamed, so it may be larger than memory. Ctrl-C keeps what was done; the same command goes on from
    there. A version appears whole or not at all, and readers keep the one that they have open.

    [bold]Examples[/bold]

      octavo search index store --corpus corpus.jsonl --out index
      octavo search index store --corpus new.jsonl --delete gone.txt --update --out index

    [bold]Exit codes[/bold]

      0 done · 2 bad input · 130 interrupted
    """
    with needs_extra():
        from octavo.search.build import Change
        from octavo.search.documents import FieldNames
    standard = FieldNames()
    names = FieldNames(
        (id_field,) if id_field else standard.id,
        (title_field,) if title_field else standard.title,
        (text_field,) if text_field else standard.text,
        tuple(keep or ()),
    )
    change = Change(corpus, names, delete, update or delete is not None)
    started = time.monotonic()
    with shown_progress(as_json) as progress:
        built = _build(store, out, change, embedder, vectors_by, threads, progress)
    _emit_built(built, time.monotonic() - started) if as_json else _show_built(built, time.monotonic() - started)


def query(
    index: IndexPath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help="What to search for.")],
    store: StoreOption = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, metavar="N", help="Results.")] = 10,
    rerank: Rerank = RERANK,
    depth: Depth = 100,
    deadline_ms: Annotated[
        float | None,
        typer.Option(min=1, metavar="MS", help="Answer by then, without what is late.", rich_help_panel=STAGES),
    ] = None,
    ranker: Ranker = None,
    rank_weight: RankWeight = None,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What intents and slots do (docs/search.md).", rich_help_panel=STAGES),
    ] = None,
    version_of: Versions = None,
    threads: options.Threads = None,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Search although a certificate is no pass here.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Search an index: understand the query, match, rank. Every stage's time and engine stand below the results.

    [bold]Examples[/bold]

      octavo search query index "undo the last commit"
      octavo search query index "undo the last commit" --version-of tool-match=1 --json

    [bold]Exit codes[/bold]

      0 done · 2 bad input, or an index or release that cannot be trusted
    """
    with needs_extra():
        from octavo.search.rules import Rules, read_rules
        from octavo.search.session import opened_session
    table = read_rules(rules) if rules else Rules()
    named = versions_from(version_of)
    with (
        shown_progress(as_json) as progress,
        opened_session(
            index,
            store,
            versions=named,
            ranker=ranker,
            rank_weight=rank_weight,
            rules=table,
            threads=threads,
            allow_uncertified=allow_uncertified,
            progress=progress,
        ) as session,
    ):
        answers = [session.search(text, k=k, rerank=rerank, depth=depth, within_ms=deadline_ms) for text in texts]
    if as_json:
        output.emit({"index": index, "answers": answers})
    else:
        for answer in answers:
            _show_answer(answer)


def versions_from(named: list[str] | None) -> dict[str, str]:
    """Return versions by model, of options like `MODEL=VERSION`. Raises InputError for another form."""
    found = {}
    for one in named or []:
        model, equals, version = one.partition("=")
        if not (model and equals and version):
            raise InputError(f"'{one}' names no version of a model. Write MODEL=VERSION, such as my-model=2.")
        found[model] = version
    return found


def _build(
    store: Path,
    out: Path,
    change: Change,
    embedder: str | None,
    vectors_by: VectorsBy,
    threads: int | None,
    progress: Progress,
) -> Built:
    from octavo.search.build import build_index
    from octavo.search.embedder import (
        NoEmbedder,
        ReleaseEmbedder,
        documents_release,
        embedder_name,
        lineage_release,
    )
    from octavo.search.index import index_folder
    from octavo.search.manifest import read_index_manifest
    from octavo.store.model import load

    if change.update:
        made_by = read_index_manifest(index_folder(out)).vectors_by
        if change.corpus is None:
            return build_index(out, change, NoEmbedder(made_by), store=store, progress=progress)
        folder = lineage_release(store, made_by)
    else:
        name = embedder_name(store, embedder)
        folder = documents_release(store / name, by_reference=vectors_by is VectorsBy.REFERENCE)
    with load(folder, threads=threads) as model:
        return build_index(out, change, ReleaseEmbedder(model), store=store, progress=progress)


def _size_bytes(built: Built) -> int:
    return sum(entry.size_bytes for entry in built.manifest.files.values())


def _emit_built(built: Built, seconds: float) -> None:
    output.emit(
        {
            "index": built.folder,
            "version": built.manifest.version,
            "documents": built.manifest.documents,
            "added": built.added,
            "replaced": built.replaced,
            "deleted": built.deleted,
            "unknown_ids": built.unknown,
            "kind": built.manifest.kind,
            "vectors_by": built.manifest.vectors_by,
            "size_bytes": _size_bytes(built),
            "seconds": seconds,
        }
    )


def _show_built(built: Built, seconds: float) -> None:
    from octavo.certify.wording import count, megabytes

    made_by = built.manifest.vectors_by
    changes = [
        f"{number:,} {what}"
        for number, what in ((built.added, "added"), (built.replaced, "replaced"), (built.deleted, "deleted"))
        if number
    ]
    output.line(f"{count(built.manifest.documents, 'document')}  ({', '.join(changes) or 'nothing changed'})", "bold")
    if built.unknown:
        output.line(f"{count(built.unknown, 'id')} to delete: not in the index")
    output.line(f"vectors  {built.manifest.kind}, by {made_by.model} {made_by.version} ({made_by.precision})")
    output.line(f"size     {megabytes(_size_bytes(built))} MB, in {duration(seconds)}")
    output.line(f"index    {built.folder}")


def _show_answer(answer: SearchAnswer) -> None:
    from octavo.certify.wording import milliseconds, percent

    output.line()
    output.line(output.printable(answer.query), style="bold")
    for intent in answer.understanding.intents:
        output.line(
            f"  intent  {output.printable(intent.label)}  {percent(intent.confidence)}  ({intent.model})", "dim"
        )
    for slot in answer.understanding.slots:
        output.line(f"  slot    {output.printable(f'{slot.type} = {slot.text}')}  ({slot.model})", "dim")
    for rule in answer.rules:
        output.line(f"  rule    {output.printable(rule)}", "dim")
    for place, result in enumerate(answer.results, 1):
        _show_result(place, result)
    if not answer.results:
        output.line("  nothing found")
    output.line()
    for stage in answer.stages:
        who = f"{stage.model} {stage.version} · {stage.engine_id}" if stage.model else ""
        text = f"  {stage.name:<9}{milliseconds(stage.ms):>7} ms  {stage.problem or who}"
        output.line(output.printable(text), "yellow" if stage.problem else "dim")
        if stage.note:
            output.line(output.printable(f"           {stage.note}"), "dim")
    output.line(f"  in all   {milliseconds(answer.ms):>7} ms{'  degraded' if answer.degraded else ''}", "dim")


def _show_result(place: int, result: Result) -> None:
    ranks = ", ".join(f"{name} {rank}" for name, rank in result.ranks.items())
    score = f"{result.score:.4f}" if result.relevance_score is None else f"{result.relevance_score:.3f}"
    name = result.title if result.title == result.id or not result.title else f"{result.title} ({result.id})"
    output.line(output.printable(f"{place:>4}  {score}  {name or result.id}   {ranks}"))
    text = " ".join(result.text[: 2 * _SHOWN_CHARACTERS].split())
    output.line(output.printable(f"              {text[:_SHOWN_CHARACTERS]}"), "dim")
