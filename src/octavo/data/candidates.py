"""Reading lists of candidates: for each query, the documents that a first stage found, and their grades.

Two forms of JSON lines: one list a line, or one pair a line. Also makes such lists out of a first stage's ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from octavo.data.json_lines import (
    check_is_file,
    grade_from,
    jsonl_from_objects,
    read_objects,
    required_key,
    sha256_of,
    text_from,
    text_under,
)
from octavo.data.retrieval import DOCUMENT_NAMES, GRADE_NAMES, QUERY_NAMES, Retrieval
from octavo.errors import InputError
from octavo.types import FloatArray, IntArray, Json

LIST_FORM = '{"query": "...", "documents": ["...", ...], "relevance": [1, ...]}'
PAIR_FORM = '{"query": "...", "document": "...", "relevance": 1}'
_FORMS = f"{LIST_FORM} or {PAIR_FORM}"
_LIST_GRADES = ("relevance", "scores", "labels")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Queries, and for each the documents to put in order.

    Attributes:
        name: of the file, without its suffix.
        queries: one per list.
        documents: of each query, in the order in which they were found; may be empty texts.
        relevance: of each query, one grade per document, 0 for irrelevant.
        sources: of each query, the `file:line` of its (first) line.
        sha256: of the file.
    """

    name: str
    queries: Sequence[str]
    documents: Sequence[Sequence[str]]
    relevance: Sequence[FloatArray]
    sources: Sequence[str]
    sha256: str


def read_candidates(path: str | Path) -> Candidates:
    """Read lists of candidates from JSON lines, either one list or one pair a line.

    Pairs are grouped by query, in order of first appearance, wherever their lines stand; lists stay as they are.
    Grades are numbers of at least 0.

    Raises:
        InputError: the file cannot be read, a line has another form than the first, an empty query, a grade that
            is no such number, or not one grade per document; names `file:line`.
    """
    path = Path(path)
    check_is_file(path)
    if path.suffix.lower() != ".jsonl":
        raise InputError(f"{path}: lists of candidates are .jsonl: {_FORMS}, one a line.")
    objects, sha256 = read_objects(path, _FORMS)
    lines = list(objects)
    as_lists = "documents" in lines[0][1]
    for where, one in lines:
        if ("documents" in one) != as_lists:
            raise InputError(f"{where}: lists and pairs are mixed; the first line of the file decides which it holds.")
    lists = [_list_from(one, where) for where, one in lines] if as_lists else _lists_from_pairs(lines)
    return _candidates(path.stem, lists, sha256)


def candidates_from_ranking(retrieval: Retrieval, ranked: Sequence[Sequence[int] | IntArray], size: int) -> Candidates:
    """Return each query's first `size` documents of a first stage's ranking, with all relevant ones among them.

    Documents keep the first stage's order. Relevant ones that it missed stand last, in the place of the last
    irrelevant ones; a list is longer than `size` only where there are more relevant documents than that.

    Args:
        retrieval: queries, documents and grades.
        ranked: of each query, document numbers, best first.
        size: documents per query.
    """
    lists = []
    for query, order in enumerate(ranked):
        grades = retrieval.relevance[query]
        found = [int(document) for document in order[:size]]
        missed = [document for document in grades if document not in set(found)]
        spare = max(0, size - len(missed) - sum(document in grades for document in found))
        irrelevant = [document for document in found if document not in grades][:spare]
        chosen = [document for document in found if document in grades or document in set(irrelevant)] + missed
        one = _List(retrieval.queries[query], retrieval.sources[query])
        one.documents = [retrieval.documents[document] for document in chosen]
        one.grades = [grades.get(document, 0.0) for document in chosen]
        lists.append(one)
    made = _candidates(retrieval.name, lists, "")
    return _candidates(retrieval.name, lists, sha256_of([jsonl_from_candidates(made)]))


def jsonl_from_candidates(candidates: Candidates) -> bytes:
    """Return the JSON lines, one list each, that `read_candidates` reads back."""
    return jsonl_from_objects(
        {"query": query, "documents": list(documents), "relevance": [_plain(grade) for grade in grades.tolist()]}
        for query, documents, grades in zip(candidates.queries, candidates.documents, candidates.relevance, strict=True)
    )


@dataclass(slots=True)
class _List:
    """One query's candidates as they are read."""

    query: str
    source: str
    documents: list[str] = field(default_factory=list)
    grades: list[float] = field(default_factory=list)


def _list_from(content: Json, where: str) -> _List:
    one = _List(text_under(content, _key(content, QUERY_NAMES, where), where), where)
    documents, key = content["documents"], _key(content, _LIST_GRADES, where)
    grades = content[key]
    if not isinstance(documents, list) or not documents:
        raise InputError(f'{where}: "documents" must be a list of at least one text. Write {LIST_FORM}.')
    if not isinstance(grades, list) or len(grades) != len(documents):
        has = f"{len(grades)} entries" if isinstance(grades, list) else "no list"
        raise InputError(f'{where}: there are {len(documents)} documents, and "{key}" has {has}. Give each its grade.')
    one.documents = [text_from(text, 'an entry of "documents"', where, may_be_empty=True) for text in documents]
    one.grades = [grade_from(grade, f'an entry of "{key}"', where) for grade in grades]
    return one


def _lists_from_pairs(lines: Sequence[tuple[str, Json]]) -> list[_List]:
    lists: dict[str, _List] = {}
    for where, content in lines:
        query = text_under(content, _key(content, QUERY_NAMES, where), where)
        document = text_under(content, _key(content, DOCUMENT_NAMES, where), where, may_be_empty=True)
        key = _key(content, GRADE_NAMES, where)
        one = lists.setdefault(query, _List(query, where))
        one.documents.append(document)
        one.grades.append(grade_from(content[key], f'"{key}"', where))
    return list(lists.values())


def _key(content: Json, names: Sequence[str], where: str) -> str:
    return required_key(content, names, where, _FORMS)


def _candidates(name: str, lists: Sequence[_List], sha256: str) -> Candidates:
    return Candidates(
        name=name,
        queries=[one.query for one in lists],
        documents=[tuple(one.documents) for one in lists],
        relevance=[np.array(one.grades, np.float32) for one in lists],
        sources=[one.source for one in lists],
        sha256=sha256,
    )


def _plain(grade: float) -> float | int:
    return int(grade) if grade.is_integer() else grade
