"""Reading retrieval data: queries, documents, and which document answers which query.

Two forms: a BEIR folder, named by its qrels file, and JSON lines of pairs or triples. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from octavo.data.characters import shown, well_formed
from octavo.data.json_lines import (
    content_of,
    first_key,
    grade_from,
    lines_of,
    name_from,
    objects_of,
    required_key,
    sha256_of,
    text_from,
    text_under,
)
from octavo.errors import InputError
from octavo.types import Json

QUERY_NAMES = ("query", "anchor")
DOCUMENT_NAMES = ("document", "doc", "positive")
GRADE_NAMES = ("relevance", "label", "score")

PAIR_FORM = '{"query": "...", "document": "..."}, with "negatives": ["...", ...] where there are any'
QUERY_FORM = '{"_id": "...", "text": "..."}'
_DOCUMENT_FORM = '{"_id": "...", "title": "...", "text": "..."}'
_QREL_FORM = "query-id, corpus-id and score with tabs between, or the four columns of TREC"

_NAME_LENGTH = 80
_QRELS_SUFFIXES = (".tsv", ".txt", ".qrels")
QRELS_HEADINGS = ("score", "relevance", "rel", "label")
_NEGATIVE = re.compile(r"negatives?(_\d+)?")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Queries that each have a relevant document at least, and the documents to find them among.

    Attributes:
        name: of the file, without its suffix.
        query_ids: as in the file; line by line of first appearance where it has none.
        queries: their texts.
        document_ids: as `query_ids`.
        documents: their texts, in the order of the corpus; "title text" where there is a title, and empty where
            there is nothing at all.
        relevance: of each query, the grades above 0 by document number.
        negatives: of each query, the documents that were named or judged as irrelevant.
        sources: of each query, the `file:line` of its first relevant document.
        sha256: of the file(s) read.
        left_out: judged queries that had no relevant document.
    """

    name: str
    query_ids: Sequence[str]
    queries: Sequence[str]
    document_ids: Sequence[str]
    documents: Sequence[str]
    relevance: Sequence[Mapping[int, float]]
    negatives: Sequence[Sequence[int]]
    sources: Sequence[str]
    sha256: str
    left_out: int = 0


def read_retrieval(path: str | Path) -> Retrieval:
    """Read retrieval data: a BEIR or TREC qrels file, or JSON lines of pairs.

    A qrels file (`.tsv`) needs `corpus.jsonl` and `queries.jsonl` beside it or one folder up. JSON lines hold
    `query` and `document`, with `negatives` where there are any, or sentence-transformers' names for these
    (`anchor`, `positive`, `negative`); equal texts are one document, and a query may occur in many lines. A
    document that is both relevant and a negative is relevant.

    Raises:
        InputError: a file is missing, a line has another form, a grade is no number of at least 0, an id occurs
            twice or is unknown, a query is empty, or nothing is relevant; names `file:line`.
    """
    path = Path(path)
    content = content_of(path, "qrels/test.tsv")
    if path.suffix.lower() in _QRELS_SUFFIXES:
        return _from_beir(path, content)
    if path.suffix.lower() == ".jsonl":
        return _from_pairs(path, content)
    raise InputError(f"{path}: retrieval data is a qrels file (.tsv) of a BEIR folder, or .jsonl; rename it.")


def beginning(text: str) -> str:
    """Return how a text begins, on one line of at most 80 characters: what a document is called for people."""
    line = " ".join(text[: 4 * _NAME_LENGTH].split())
    return line if len(line) <= _NAME_LENGTH else line[: _NAME_LENGTH - 1] + "…"


@dataclass(slots=True)
class _Judgements:
    """Grades by query and document number as they are read; 0 for irrelevant. Grades of the same pair: the highest."""

    grades: dict[int, dict[int, float]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)  # of each query's first relevant document

    def add(self, query: int, document: int, grade: float, where: str) -> None:
        graded = self.grades.setdefault(query, {})
        graded[document] = max(grade, graded.get(document, 0.0))
        if grade > 0:
            self.places.setdefault(query, where)

    def retrieval(
        self,
        path: Path,
        queries: tuple[Sequence[str], Sequence[str]],
        documents: tuple[Sequence[str], Sequence[str]],
        sha256: str,
    ) -> Retrieval:
        """Return the data of the queries with a relevant document; `queries` and `documents` are ids and texts."""
        if not self.places:
            raise InputError(f"{path}: no document is relevant to any query. Grades above 0 say which ones are.")
        kept = [query for query in self.grades if query in self.places]
        graded = [self.grades[query] for query in kept]
        return Retrieval(
            name=path.stem,
            query_ids=[queries[0][query] for query in kept],
            queries=[queries[1][query] for query in kept],
            document_ids=documents[0],
            documents=documents[1],
            relevance=[{document: grade for document, grade in one.items() if grade > 0} for one in graded],
            negatives=[tuple(document for document, grade in one.items() if grade == 0) for one in graded],
            sources=[self.places[query] for query in kept],
            sha256=sha256,
            left_out=len(self.grades) - len(kept),
        )


# BEIR and TREC.


def _from_beir(path: Path, content: bytes) -> Retrieval:
    corpus, queries = _beside(path, "corpus.jsonl"), _beside(path, "queries.jsonl")
    contents = [content, content_of(corpus), content_of(queries)]
    documents, document_texts = texts_by_id(corpus, contents[1], _DOCUMENT_FORM, _document_text)
    asked, query_texts = texts_by_id(queries, contents[2], QUERY_FORM, query_text)
    judged = _Judgements()
    for number, (where, line) in enumerate(lines_of(content, path)):
        cells = cells_from_qrel(line, where)
        if number == 0 and cells[2].lower() in QRELS_HEADINGS:
            continue
        query = _number(cells[0], asked, "query", queries, where)
        document = _number(cells[1], documents, "document", corpus, where)
        judged.add(query, document, grade_from_cell(cells[2], where), where)
    return judged.retrieval(path, (list(asked), query_texts), (list(documents), document_texts), sha256_of(contents))


def _beside(path: Path, name: str) -> Path:
    places = [path.parent / name, path.parent.parent / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{path}: there is no {name} beside it or one folder up ({', '.join(map(str, places))}). "
            "A BEIR folder has corpus.jsonl, queries.jsonl and qrels/test.tsv."
        )
    return found


def texts_by_id(
    path: Path, content: bytes, form: str, text_of: Callable[[Json, str], str]
) -> tuple[dict[str, int], list[str]]:
    """Return the numbers by id, and the texts by number."""
    numbers: dict[str, int] = {}
    texts: list[str] = []
    for where, one in objects_of(content, path, form):
        name = _id_of(one, where, form)
        if name in numbers:
            raise InputError(f"{where}: the id {shown(name)} occurs twice. Give each line an id of its own.")
        numbers[name] = len(texts)
        texts.append(text_of(one, where))
    return numbers, texts


def _id_of(content: Json, where: str, form: str) -> str:
    key = required_key(content, ("_id", "id"), where, form)
    return name_from(content[key], f'"{key}"', where, may_be_number=True).strip()


def query_text(content: Json, where: str) -> str:
    """Return the text of a line of BEIR's queries. Raises InputError."""
    return text_under(content, required_key(content, ["text"], where, QUERY_FORM), where)


def _document_text(content: Json, where: str) -> str:
    """Return "title text", as BEIR joins them; null counts as empty."""
    required_key(content, ("text", "title"), where, _DOCUMENT_FORM)
    parts = [key for key in ("title", "text") if content.get(key) is not None]
    return " ".join(text_under(content, key, where, may_be_empty=True) for key in parts).strip()


def cells_from_qrel(line: str, where: str) -> tuple[str, str, str]:
    """Return query id, document id and score; TREC has a column between the first two, which nobody uses."""
    cells = [well_formed(cell).strip() for cell in (line.split("\t") if "\t" in line else line.split())]
    if len(cells) not in (3, 4):
        raise InputError(f"{where}: {shown(line)} has {len(cells)} columns. Write {_QREL_FORM}.")
    return cells[0], cells[-2], cells[-1]


def _number(name: str, numbers: Mapping[str, int], what: str, file: Path, where: str) -> int:
    number = numbers.get(name)
    if number is None:
        raise InputError(f"{where}: the {what} {shown(name)} is not in {file}.")
    return number


def grade_from_cell(cell: str, where: str) -> float:
    """Return the grade that a cell of qrels holds. Raises InputError."""
    try:
        return grade_from(float(cell), "the score", where)
    except ValueError as error:
        raise InputError(f"{where}: the score is {shown(cell)} and should be a number of at least 0.") from error


# Pairs and triples.


@dataclass(slots=True)
class _Numbers:
    """Numbers for texts, given at first sight."""

    by_text: dict[str, int] = field(default_factory=dict)

    def of(self, text: str) -> int:
        return self.by_text.setdefault(text, len(self.by_text))

    def columns(self) -> tuple[Sequence[str], Sequence[str]]:
        return [str(number) for number in range(len(self.by_text))], list(self.by_text)


def _from_pairs(path: Path, content: bytes) -> Retrieval:
    queries, documents, judged = _Numbers(), _Numbers(), _Judgements()
    for where, one in objects_of(content, path, PAIR_FORM):
        asked, answer = (required_key(one, names, where, PAIR_FORM) for names in (QUERY_NAMES, DOCUMENT_NAMES))
        query = queries.of(text_under(one, asked, where))
        document = documents.of(text_under(one, answer, where, may_be_empty=True))
        graded = first_key(one, GRADE_NAMES)
        judged.add(query, document, 1.0 if graded is None else grade_from(one[graded], f'"{graded}"', where), where)
        for text in _negatives_of(one, where):
            judged.add(query, documents.of(text), 0.0, where)
    return judged.retrieval(path, queries.columns(), documents.columns(), sha256_of([content]))


def _negatives_of(content: Json, where: str) -> list[str]:
    """Return the texts under `negative`, `negatives`, `negative_1` and so on, each one text or a list of them."""
    found: list[str] = []
    for key in content:
        if _NEGATIVE.fullmatch(key) and content[key] is not None:
            texts = content[key] if isinstance(content[key], list) else [content[key]]
            found += [text_from(text, f'"{key}"', where, may_be_empty=True) for text in texts]
    return found
