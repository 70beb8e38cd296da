"""The labels of a head's outputs, as a Hugging Face `config.json` names them, and back."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.data.characters import well_formed
from octavo.errors import ModelError
from octavo.types import Json


def labels_from_config(config: Json, source: str = "config.json") -> tuple[str, ...]:
    """Return the labels of a `config.json`, in the order of their ids.

    `transformers` leaves its default names unsaid: two labels, or `num_labels` of them.

    Raises:
        ModelError: `id2label` is no map from ids to names, or leaves an id out.
    """
    names = config.get("id2label")
    if names is None:
        count = config.get("num_labels", 2)
        return tuple(f"LABEL_{i}" for i in range(count if isinstance(count, int) else 2))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f'{source}: id2label must be such as {{"0": "refund", "1": "greeting"}}.')
    by_id = {str(key): well_formed(name) for key, name in names.items()}
    try:
        return tuple(by_id[str(i)] for i in range(len(by_id)))
    except KeyError as error:
        missing = error.args[0]
        raise ModelError(f"{source}: id2label has {len(by_id)} entries but none for id {missing}.") from error


def config_from_labels(labels: Sequence[str]) -> Json:
    """Return the keys of a `config.json` that name these labels."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def claims_architecture(config: Json, ending: str) -> bool:
    """Return whether `architectures` names a class with this ending, such as `ForTokenClassification`."""
    names = config.get("architectures")
    return isinstance(names, list) and any(isinstance(name, str) and name.endswith(ending) for name in names)
