"""What to say about a label that the model does not have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from octavo.data.characters import shown, text_key
from octavo.errors import InputError
from octavo.types import Row


def unknown_label(row: Row, labels: Sequence[str]) -> InputError:
    """Return the error for a row whose label is missing or not one of `labels`; near labels are suggested."""
    where = row.source or f"row {shown(row.text)}"
    if row.label is None:
        return InputError(f'{where}: this row has no label. Add "label" with one of: {_listed(labels)}.')
    near = _near(row.label, labels)
    hint = f"Did you mean {' or '.join(map(shown, near))}?" if near else f"Known: {_listed(labels)}."
    return InputError(f"{where}: the label {shown(row.label)} is not one of the {len(labels)} labels. {hint}")


def _near(label: str, labels: Sequence[str]) -> list[str]:
    same = [known for known in labels if text_key(known) == text_key(label)]
    return same or difflib.get_close_matches(label, labels, n=3, cutoff=0.6)


def _listed(labels: Sequence[str], most: int = 8) -> str:
    names = ", ".join(shown(label) for label in labels[:most])
    return names if len(labels) <= most else f"{names} and {len(labels) - most} more"
