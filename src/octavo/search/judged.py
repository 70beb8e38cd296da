"""Judged queries for an index: BEIR's `queries.jsonl`, and a qrels file of BEIR's three columns or TREC's four.

`octavo.data.retrieval` reads the corpus beside them; here documents are known by their ids alone, as in the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import (
    content_of,
    grade_from,
    lines_of,
    name_from,
    objects_of,
    required_key,
    sha256_of,
    text_under,
)
from octavo.errors import InputError

_QUERY_FORM = '{"_id": "...", "text": "..."}'
_QREL_FORM = "query-id, corpus-id and score with tabs between, or the four columns of TREC"
_HEADINGS = ("score", "relevance", "rel", "label")


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries that each have a relevant document at least.

    Attributes:
        ids: of the queries.
        queries: their texts.
        relevance: of each query, the grades above 0 by the id of the document.
        left_out: judged queries that had no relevant document.
        sha256: of the files read.
    """

    ids: Sequence[str]
    queries: Sequence[str]
    relevance: Sequence[Mapping[str, float]]
    left_out: int
    sha256: str


def read_judged(queries: Path, qrels: Path) -> Judged:
    """Read queries and judgements; of several grades for the same pair, the highest counts.

    Raises:
        InputError: a file is missing, a line has another form, a query that was judged is not there, or nothing is
            relevant; names `file:line`.
    """
    contents = [content_of(queries, "queries.jsonl"), content_of(qrels, "qrels/test.tsv")]
    texts = _texts(queries, contents[0])
    grades: dict[str, dict[str, float]] = {}
    for number, (where, line) in enumerate(lines_of(contents[1], qrels)):
        query, document, cell = _cells(line, where)
        if number == 0 and cell.lower() in _HEADINGS:
            continue
        if query not in texts:
            raise InputError(f"{where}: the query {shown(query)} is not in {queries}.")
        graded = grades.setdefault(query, {})
        graded[document] = max(_grade(cell, where), graded.get(document, 0.0))
    relevant = {query: {name: grade for name, grade in graded.items() if grade > 0} for query, graded in grades.items()}
    kept = [query for query in relevant if relevant[query]]
    if not kept:
        raise InputError(f"{qrels}: no document is relevant to any query. Grades above 0 say which ones are.")
    return Judged(
        ids=kept,
        queries=[texts[query] for query in kept],
        relevance=[relevant[query] for query in kept],
        left_out=len(relevant) - len(kept),
        sha256=sha256_of(contents),
    )


def _texts(path: Path, content: bytes) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, one in objects_of(content, path, _QUERY_FORM):
        key = required_key(one, ("_id", "id"), where, _QUERY_FORM)
        name = name_from(one[key], f'"{key}"', where, may_be_number=True).strip()
        if name in texts:
            raise InputError(f"{where}: the id {shown(name)} occurs twice. Give each line an id of its own.")
        texts[name] = text_under(one, required_key(one, ["text"], where, _QUERY_FORM), where)
    return texts


def _cells(line: str, where: str) -> tuple[str, str, str]:
    cells = [well_formed(cell).strip() for cell in (line.split("\t") if "\t" in line else line.split())]
    if len(cells) not in (3, 4):
        raise InputError(f"{where}: {shown(line)} has {len(cells)} columns. Write {_QREL_FORM}.")
    return cells[0], cells[-2], cells[-1]


def _grade(cell: str, where: str) -> float:
    try:
        return grade_from(float(cell), "the score", where)
    except ValueError as error:
        raise InputError(f"{where}: the score is {shown(cell)} and should be a number of at least 0.") from error
