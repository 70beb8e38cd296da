"""A model folder for a corpus: the same model with a smaller word-embedding table.

Knows which files and tensors of a folder speak of token ids, and what is left behind because it would be wrong.
Which tokens stay is decided in `octavo.text.vocabulary`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from octavo.encoder.config import EncoderConfig
from octavo.encoder.folder import read_folder
from octavo.errors import InputError, ModelError
from octavo.text.tokenizer import Tokenizer
from octavo.text.vocabulary import TrimmedVocabulary, trimmed_vocabulary
from octavo.types import IntArray, Json

_WORDS = "word_embeddings.weight"
# One row or value per token: the embeddings, and the head that predicts masked words, as each family names it.
_PER_TOKEN = (
    _WORDS,
    ".decoder.weight",
    ".decoder.bias",
    "predictions.bias",
    "lm_head.bias",
    "vocab_projector.weight",
    "vocab_projector.bias",
)
_WEIGHTS, _CONFIG, _TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_TOKENIZER_CONFIG, _GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
_REWRITTEN = (_WEIGHTS, _CONFIG, _TOKENIZER, _TOKENIZER_CONFIG, _GENERATION_CONFIG)
# Other forms of the weights and of the vocabulary, which would still be those of the old model.
_OTHER_WEIGHTS = ("model.*", "model-*", "pytorch_model*", "tf_model*", "flax_model*", "rust_model*", "*.onnx", "*.gguf")
_OTHER_FOLDERS = ("onnx", "openvino*", "coreml", "checkpoint-*", ".*")  # .git holds every version of the weights
_OTHER_VOCABULARIES = ("vocab.*", "merges.txt", "*.bpe.model", "spiece.model", "tokenizer.model", "added_tokens.json")
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Trimming:
    """What trimming made: the folder, rows of the embedding table, its size in FP32 as served, and texts read."""

    folder: Path
    tokens_before: int
    tokens_after: int
    bytes_before: int
    bytes_after: int
    texts: int


def trim_folder(path: Path, texts: Iterable[str], out: Path) -> Trimming:
    """Write the model in `path` to `out` without the tokens that `texts` do not use.

    Every tensor but the tables with a row per token is copied byte for byte, and every file that still holds true.
    `out` appears whole or not at all; a model folder that is there is replaced.

    Raises:
        InputError: `out` exists and is no model folder, or one of the two is inside the other; or there are no texts.
        ModelError: the folder cannot be read, or its vocabulary cannot be trimmed.
    """
    _check_out(path, out)
    folder = read_folder(path)
    config, hf_config = folder.config, folder.hf_config
    del folder  # its tensors are FP32 copies
    tokens, width = _table_shape(path)
    seen = 0

    def counted() -> Iterator[str]:
        nonlocal seen
        for text in texts:
            seen += 1
            yield text

    trimmed = trimmed_vocabulary(
        (path / _TOKENIZER).read_bytes(),
        counted(),
        source=str(path / _TOKENIZER),
        # RoBERTa counts positions from the padding token's id, which stays the same if all below it do.
        keep=[*_ids_in(hf_config), *range(config.position_offset)],
    )
    _check_padding(path, config, trimmed.kept)
    _write(path, out.resolve(), hf_config, trimmed, tokens)
    row_bytes = width * _FLOAT_BYTES
    return Trimming(out, tokens, len(trimmed.kept), tokens * row_bytes, len(trimmed.kept) * row_bytes, seen)


def _check_out(path: Path, out: Path) -> None:
    source, target = path.resolve(), out.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise InputError(f"{out} is the model's own folder {path}, or one is inside the other. Choose another --out.")
    if out.exists() and not (out / _CONFIG).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a model folder. Choose another --out.")


def _table_shape(path: Path) -> tuple[int, int]:
    """Return the rows and the width of the word embeddings, which have a row for every token.

    Raises:
        ModelError: there is no such tensor, or it has fewer rows than the tokenizer has ids.
    """
    file = path / _WEIGHTS
    with safe_open(file, framework="pt") as opened:
        shapes = [opened.get_slice(name).get_shape() for name in opened.keys() if name.endswith(_WORDS)]  # noqa: SIM118
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ModelError(f"{file} should have one table of word embeddings, …{_WORDS} of shape (tokens, hidden).")
    tokens, width = shapes[0]
    ids = Tokenizer.from_folder(path, max_length=1 << 20).vocabulary_size
    if ids > tokens:
        raise ModelError(
            f"{file}: the word embeddings have {tokens:,} rows, but {path / _TOKENIZER} has ids up to {ids - 1:,}. "
            "The two files are not of one model."
        )
    return tokens, width


def _check_padding(path: Path, config: EncoderConfig, kept: IntArray) -> None:
    pad = config.position_offset - 1
    if config.position_offset and (pad >= len(kept) or kept[pad] != pad):
        raise ModelError(
            f"{path}: cannot be trimmed. A {config.family} model counts its positions from the id of the padding "
            f"token, {pad}, which would change: not every id below it has a token."
        )


def _write(path: Path, out: Path, hf_config: Json, trimmed: TrimmedVocabulary, tokens: int) -> None:
    draft = out.with_name(f".{out.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        new_ids = {int(old): new for new, old in enumerate(trimmed.kept)}
        _write_tensors(path / _WEIGHTS, draft / _WEIGHTS, trimmed.kept, tokens)
        (draft / _TOKENIZER).write_bytes(trimmed.tokenizer_json)
        config = {**_with_new_ids(hf_config, new_ids), "vocab_size": len(trimmed.kept)}
        (draft / _CONFIG).write_text(_json(config), "utf-8")
        for name in (_TOKENIZER_CONFIG, _GENERATION_CONFIG):
            if (path / name).is_file():
                (draft / name).write_text(_json(_with_new_ids(_read_json(path / name), new_ids)), "utf-8")
        _copy_rest(path, draft)
        shutil.rmtree(out, ignore_errors=True)
        draft.replace(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_tensors(source: Path, target: Path, kept: IntArray, tokens: int) -> None:
    """Copy the tensors in the types that they are stored in, with the rows `kept` of those that have one per token."""
    with safe_open(source, framework="pt") as opened:
        metadata = opened.metadata()
        tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    rows = torch.from_numpy(kept)
    for name, tensor in tensors.items():
        if name.endswith(_PER_TOKEN) and tensor.dim() and len(tensor) == tokens:
            tensors[name] = tensor[rows]  # (tokens, …)
    save_file(tensors, target, metadata)


def _copy_rest(path: Path, draft: Path) -> None:
    for entry in path.iterdir():
        if entry.is_file() and not _is_one_of(entry, _REWRITTEN + _OTHER_WEIGHTS + _OTHER_VOCABULARIES):
            shutil.copyfile(entry, draft / entry.name)
        elif entry.is_dir() and not _is_one_of(entry, _OTHER_FOLDERS):
            shutil.copytree(entry, draft / entry.name, copy_function=shutil.copyfile)


def _is_one_of(entry: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(entry.name, pattern) for pattern in patterns)


def _ids_in(hf_config: Json) -> list[int]:
    values = [value for name, value in hf_config.items() if name.endswith("_token_id")]
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, int)]


def _with_new_ids(document: Json, new_ids: dict[int, int]) -> Json:
    """Return a configuration with its token ids changed; None is the new id of one that is no longer there."""
    changed = {
        name: _changed(value, new_ids) if name.endswith("_token_id") else value for name, value in document.items()
    }
    if isinstance(decoder := document.get("added_tokens_decoder"), dict):
        changed["added_tokens_decoder"] = {
            str(new_ids[int(old)]): token for old, token in decoder.items() if old.isdecimal() and int(old) in new_ids
        }
    return changed


def _changed(value: Any, new_ids: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_changed(one, new_ids) for one in value]
    return new_ids.get(value) if isinstance(value, int) else value


def _read_json(file: Path) -> Json:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} must hold a JSON object, not {type(content).__name__}.")
    return content


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
