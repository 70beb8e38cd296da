"""The names of a head's outputs, as a Hugging Face `config.json` keeps them."""

from __future__ import annotations

from octavo.data.characters import well_formed
from octavo.errors import ModelError
from octavo.types import Json


def labels_from_config(config: Json, source: str) -> tuple[str, ...]:
    """Return the `id2label` of a `config.json` in the order of its ids; `source` is what errors call the file.

    Raises:
        ModelError: there is no `id2label`, or it has no name for an id.
    """
    names = config.get("id2label")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f'{source}: there is no id2label such as {{"0": "refund", "1": "greeting"}}. Add it.')
    by_id = {str(key): well_formed(name) for key, name in names.items()}
    try:
        return tuple(by_id[str(i)] for i in range(len(by_id)))
    except KeyError as error:
        missing = error.args[0]
        raise ModelError(f"{source}: id2label has {len(by_id)} entries but none for id {missing}.") from error


def config_from_labels(labels: tuple[str, ...]) -> Json:
    """Return what `labels_from_config` reads back, and its inverse, as `transformers` writes them."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
