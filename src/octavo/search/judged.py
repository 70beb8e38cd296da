"""Judged queries for an index: BEIR's `queries.jsonl`, and a qrels file of BEIR's three columns or TREC's four.

`octavo.data.retrieval` reads the corpus beside them; here documents are known by their ids alone, as in the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data.characters import shown
from octavo.data.json_lines import content_of, lines_of, sha256_of
from octavo.data.retrieval import (
    QRELS_HEADINGS,
    QUERY_FORM,
    cells_from_qrel,
    grade_from_cell,
    query_text,
    texts_by_id,
)
from octavo.errors import InputError


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
    texts = dict(zip(*texts_by_id(queries, contents[0], QUERY_FORM, query_text), strict=True))
    grades: dict[str, dict[str, float]] = {}
    for number, (where, line) in enumerate(lines_of(contents[1], qrels)):
        query, document, cell = cells_from_qrel(line, where)
        if number == 0 and cell.lower() in QRELS_HEADINGS:
            continue
        if query not in texts:
            raise InputError(f"{where}: the query {shown(query)} is not in {queries}.")
        graded = grades.setdefault(query, {})
        graded[document] = max(grade_from_cell(cell, where), graded.get(document, 0.0))
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
