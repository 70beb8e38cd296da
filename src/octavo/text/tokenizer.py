"""Text to token ids, as the model's own `tokenizer.json` says and in no other way.

Runs on the `tokenizers` library (Rust); loads no Python code from a model folder and needs no `transformers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers

from octavo.data.characters import well_formed
from octavo.errors import InputError, ModelError
from octavo.text.batch import TokenBatch

_VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


class Tokenizer:
    """Turns texts into a `TokenBatch`. Thread-safe; it never pads, and cuts at `max_length` tokens only."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, max_length: int, unknown_id: int | None) -> None:
        self._tokenizer = tokenizer
        self._unknown_id = unknown_id
        self.max_length = max_length

    @classmethod
    def from_bytes(cls, tokenizer_json: bytes, *, max_length: int, source: str) -> Tokenizer:
        """Build from the content of a `tokenizer.json`; `source` is what errors call it.

        Padding and truncation stored in the file are switched off: they belong to whoever saved it.

        Raises:
            ModelError: the content is not a tokenizer that the `tokenizers` library can load.
            InputError: `max_length` leaves no room for text beside the special tokens.
        """
        tokenizer, content = _loaded(tokenizer_json, source)
        specials = tokenizer.num_special_tokens_to_add(False)
        if max_length <= specials:
            raise InputError(
                f"max_length is {max_length}, but {source} adds {specials} special tokens to each text: "
                f"give at least {specials + 1}."
            )
        # Which end is cut is a property of how the model was trained, unlike the length.
        direction = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length, direction=direction)
        return cls(tokenizer, max_length, _unknown_id(tokenizer, content))

    @classmethod
    def from_folder(cls, path: str | Path, max_length: int) -> Tokenizer:
        """Build from the `tokenizer.json` in a model folder.

        Raises:
            ModelError: the file is missing (the message says how to make one) or invalid.
            InputError: `max_length` leaves no room for text.
        """
        file = Path(path) / "tokenizer.json"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise _missing(Path(path), error) from error
        return cls.from_bytes(content, max_length=max_length, source=str(file))

    @cached_property
    def vocabulary_size(self) -> int:
        """Highest token id plus one, added tokens included: the embedding rows that a model needs."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Return the token ids of `texts`, special tokens included: 1 to `max_length` of them per text.

        Lone surrogates count as U+FFFD. A text of which nothing is left (empty, and no special tokens)
        becomes the unknown token.

        Raises:
            InputError: such a text, and the tokenizer has no unknown token either.
        """
        # Long texts are not cut before this: a run of spaces gives no token and a word of any length may give
        # one, so no number of characters provably holds the first max_length tokens. 100,000 characters take
        # about 30 ms; limits on input belong to the server.
        encodings = self._tokenizer.encode_batch_fast([well_formed(text) for text in texts])
        sequences = [encoding.ids or self._nothing_left(row) for row, encoding in enumerate(encodings)]
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(sequences), np.int64, count=int(offsets[-1]))
        return TokenBatch(ids, offsets)

    def _nothing_left(self, row: int) -> list[int]:
        if self._unknown_id is None:
            raise InputError(f"Text {row} of this batch is empty, and the tokenizer has no token to stand for that.")
        return [self._unknown_id]


def _loaded(tokenizer_json: bytes, source: str) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    try:
        content = msgspec.json.decode(tokenizer_json, type=dict[str, Any])
        return tokenizers.Tokenizer.from_buffer(tokenizer_json), content
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library raises bare Exception, and a panic in its Rust code arrives as a BaseException.
    except BaseException as error:
        raise ModelError(
            f"{source}: not a tokenizer that tokenizers {tokenizers.__version__} can read ({error}). "
            "Save it again with AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
        ) from error


def _unknown_id(tokenizer: tokenizers.Tokenizer, content: dict[str, Any]) -> int | None:
    model = content.get("model")
    if not isinstance(model, dict):
        return None
    if isinstance(model.get("unk_id"), int):  # Unigram names the id
        return int(model["unk_id"])
    token = model.get("unk_token")  # WordPiece, WordLevel and BPE name the token
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def _missing(folder: Path, error: OSError) -> ModelError:
    if not folder.is_dir():
        return ModelError(f"{folder}: there is no such model folder.")
    if not isinstance(error, FileNotFoundError):
        return ModelError(f"{folder / 'tokenizer.json'}: cannot be read ({error.strerror}).")
    found = [name for name in _VOCABULARIES if (folder / name).is_file()]
    has = f"only {' and '.join(found)}" if found else "no vocabulary either"
    return ModelError(
        f'{folder}: there is no tokenizer.json ({has}). Make one with: python -c "from transformers import '
        f"AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )
