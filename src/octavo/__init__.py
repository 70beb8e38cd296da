"""Octavo folds a fine-tuned BERT search model into INT8, proves that nothing was lost, and serves it.

import octavo

octavo.compress(recipe)                      # needs the extra `compress` (torch)
with octavo.load("store/my-model") as model: # needs no torch
    model.predict(["list all running containers"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "OctavoError", "Recipe", "__version__", "compress", "load", "read_recipe"]

if TYPE_CHECKING:
    from octavo.errors import OctavoError
    from octavo.ladder.compress import compress
    from octavo.recipe import Recipe, read_recipe
    from octavo.store.model import Model, load

# Imported when first used: serving must not pay for torch, nor `octavo --help` for an engine.
_HOMES = {
    "Model": "octavo.store.model",
    "load": "octavo.store.model",
    "compress": "octavo.ladder.compress",
    "Recipe": "octavo.recipe",
    "read_recipe": "octavo.recipe",
    "OctavoError": "octavo.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'octavo' has no attribute '{name}'")
    from importlib import import_module

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("octavo"):
            raise
        from octavo.errors import MissingExtraError

        raise MissingExtraError(error.name, "compress") from None
