"""Are these splits fit to certify on? Leaks between them, labels that contradict, classes without rows.

Judges rows only; whether a warning stops the job is the caller's choice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from octavo.data.characters import shown, text_key
from octavo.data.labels import unknown_label
from octavo.data.rows import rows_in_memory, texts_of
from octavo.errors import InputError
from octavo.types import Row, Rows


@dataclass(frozen=True, slots=True)
class Conflict:
    """One text (or pair, with a bar between) that carries several labels, and the places where it does."""

    text: str
    labels: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What `check_splits` found. Texts are compared without case and outer spaces; of a pair, both count.

    Attributes:
        shared: rows of the second split whose text is also in the first, by pair of split names.
        repeated: rows beyond the first of the same text, by split name.
        conflicts: texts with more than one label, over all splits.
        absent: labels that never occur, by split name (training and test split only).
    """

    shared: Mapping[tuple[str, str], int]
    repeated: Mapping[str, int]
    conflicts: tuple[Conflict, ...]
    absent: Mapping[str, tuple[str, ...]]

    def warnings(self) -> list[str]:
        """Return one plain sentence per finding; empty when all is well."""
        found = [
            f"{second} shares {_counted(count, 'row')} with {first}, which flatters the model."
            for (first, second), count in self.shared.items()
        ]
        found += [
            f"{name} repeats a text of its own in {_counted(count, 'row')}." for name, count in self.repeated.items()
        ]
        if self.conflicts:
            one = self.conflicts[0]
            labels, places = " and ".join(map(shown, one.labels)), ", ".join(one.sources)
            found.append(
                f"No model can be right on {_counted(len(self.conflicts), 'text')} of different labels; "
                f"for one, {shown(one.text)} is {labels} ({places})."
            )
        found += [_absence(name, labels) for name, labels in self.absent.items()]
        return found


def check_splits(train: Rows, dev: Rows, test: Rows, labels: Sequence[str] | None = None) -> SplitReport:
    """Compare three splits with each other and with the model's labels (`None`: those of `train`).

    Raises:
        InputError: a row has no label or one that is not in `labels`; names `file:line`.
    """
    if labels is None:
        labels = sorted({row.label for row in train.rows if row.label is not None})
    splits = (train, dev, test)
    allowed = set(labels)
    for row in (row for split in splits for row in split.rows):
        if row.label not in allowed:
            raise unknown_label(row, labels)
    # Positions and not names: two files of the same name in different folders are still two splits.
    names = _distinct_names(splits)
    counts = [Counter(_key(row) for row in split.rows) for split in splits]
    return SplitReport(
        shared={
            (names[a], names[b]): count
            for a, b in combinations(range(3), 2)
            if (count := sum(times for key, times in counts[b].items() if key in counts[a]))
        },
        repeated={name: extra for name, c in zip(names, counts, strict=True) if (extra := c.total() - len(c))},
        conflicts=_conflicts([row for split in splits for row in split.rows]),
        absent={names[i]: gone for i in (0, 2) if (gone := _absent(splits[i], labels))},
    )


def split_by_group(
    rows: Rows, fractions: Mapping[str, float], *, groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Rows]:
    """Deal rows into named splits without dividing a group.

    The split follows from a hash of seed and group alone: it does not depend on the order of the rows, and
    adding rows moves no old one. Fractions are met on average, not exactly. Without `groups`, rows of equal
    text form one.

    Raises:
        InputError: fractions that are not positive or do not sum to 1, or not one group per row.
    """
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-9:
        raise InputError(f"Fractions must be above 0 and sum to 1, and these are {dict(fractions)}.")
    keys = [_key(row) for row in rows.rows] if groups is None else groups
    if len(keys) != len(rows):
        raise InputError(f"There are {len(rows)} rows and {len(keys)} groups; give each row its group.")
    dealt: dict[str, list[Row]] = {name: [] for name in fractions}
    for row, key in zip(rows.rows, keys, strict=True):
        dealt[_share_at(place(key, seed), fractions)].append(row)
    return {name: rows_in_memory(name, chosen) for name, chosen in dealt.items()}


def place(text: str, purpose: str | int) -> float:
    """Return a number in [0, 1) that follows from a text and a purpose (a seed, say) alone, on every machine."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{text}".encode()).digest()[:6]) / 2**48


def _key(row: Row) -> str:
    return text_key(*texts_of(row))


def _share_at(place: float, fractions: Mapping[str, float]) -> str:
    names = list(fractions)
    upper = 0.0
    for name in names[:-1]:
        upper += fractions[name]
        if place < upper:
            return name
    return names[-1]


def _distinct_names(splits: Sequence[Rows]) -> list[str]:
    names = [split.name for split in splits]
    return names if len(set(names)) == len(names) else ["train", "dev", "test"]


def _conflicts(rows: Sequence[Row]) -> tuple[Conflict, ...]:
    first_with_label: dict[str, dict[str | None, Row]] = {}
    for row in rows:
        first_with_label.setdefault(_key(row), {}).setdefault(row.label, row)
    return tuple(_conflict(list(found.values())) for found in first_with_label.values() if len(found) > 1)


def _conflict(rows: Sequence[Row]) -> Conflict:
    return Conflict(" | ".join(texts_of(rows[0])), tuple(str(r.label) for r in rows), tuple(r.source for r in rows))


def _absent(split: Rows, labels: Sequence[str]) -> tuple[str, ...]:
    present = {row.label for row in split.rows}
    return tuple(label for label in labels if label not in present)


def _absence(name: str, labels: tuple[str, ...], most: int = 5) -> str:
    listed = ", ".join(shown(label) for label in labels[:most]) + (" and more" if len(labels) > most else "")
    return f"{name} has no row for {_counted(len(labels), 'label')}: {listed}."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
