"""What to say about a name, such as a label or a tag, that the model does not have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from octavo.data.characters import shown, text_key
from octavo.errors import InputError
from octavo.types import Row

_UNNAMED = re.compile("LABEL_[0-9]+")


def unknown_label(row: Row, labels: Sequence[str]) -> InputError:
    """Return the error for a row whose label is missing or not one of `labels`; near labels are suggested."""
    where = row.source or f"row {shown(row.text)}"
    if row.label is None:
        return InputError(f'{where}: this row has no label. Add "label" with one of: {listed(labels)}.')
    return unknown_name(where, "label", row.label, labels)


def unknown_name(where: str, kind: str, name: str, known: Sequence[str]) -> InputError:
    """Return the error for a name that is not one of `known`; near names are suggested.

    Args:
        where: `file:line`.
        kind: what is named, in a word, such as `label`.
        name: the unknown one.
        known: the model's, in order.
    """
    near = _near(name, known)
    hint = f"Did you mean {' or '.join(map(shown, near))}?" if near else f"Known: {listed(known)}."
    if all(_UNNAMED.fullmatch(one) for one in known):  # what `transformers` calls labels that nobody named
        hint = f"The model names none: write the names of its {kind}s under id2label in its config.json."
    return InputError(f"{where}: the {kind} {shown(name)} is not one of the {len(known)} {kind}s. {hint}")


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return the first names quoted, and how many more there are."""
    quoted = ", ".join(shown(name) for name in names[:most])
    return quoted if len(names) <= most else f"{quoted} and {len(names) - most} more"


def _near(name: str, known: Sequence[str]) -> list[str]:
    same = [candidate for candidate in known if text_key(candidate) == text_key(name)]
    return same or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
