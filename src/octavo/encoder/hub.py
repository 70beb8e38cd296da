"""From what a user calls a model to a folder: a path, or a hub id where the machine is online."""

from __future__ import annotations

from pathlib import Path

from octavo.errors import ModelError
from octavo.recipe import is_hub_id

# Weights as safetensors, configuration and tokenizer. No code, no pickle.
_FILES = ("*.json", "*.safetensors", "*/config.json")
_NOT_FILES = ("onnx/*", "openvino/*")


def folder_of(path: Path) -> Path:
    """Return the folder itself, or download the snapshot that a hub id such as `org/name` stands for.

    Raises:
        ModelError: there is no such folder, and it is no hub id or the hub does not answer.
    """
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{path} is not a folder. A model is a folder with config.json and model.safetensors.")
    if not is_hub_id(path):
        raise ModelError(
            f"{path}: there is no such folder. A model is a folder with config.json, model.safetensors and "
            "tokenizer.json, or a hub id such as org/name."
        )
    return _snapshot(str(path))


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES), ignore_patterns=list(_NOT_FILES)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # the library raises its own, its HTTP client's and OSError, by version
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"{hub_id}: there is no such folder, and it cannot be fetched from the hub ({reason.rstrip('.')}). "
            "Check the name, or give a local folder."
        ) from None
