"""Text to token ids, as the model's own `tokenizer.json` says and in no other way.

Runs on the `tokenizers` library (Rust); loads no Python code from a model folder and needs no `transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tokenizers

from octavo.data.characters import shown, well_formed
from octavo.errors import InputError, ModelError
from octavo.text.batch import TokenBatch
from octavo.text.known_words import KnownWords, known_words
from octavo.types import Input, Pair, Words

_VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


class Tokenizer:
    """Turns inputs into a `TokenBatch`. Thread-safe; it never pads, and cuts at `max_length` tokens only."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        max_length: int,
        unknown_id: int | None,
        reads_last: bool = False,
        known: KnownWords | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._reads_last = reads_last
        self._unknown_id = unknown_id
        self._direction = str((tokenizer.truncation or {}).get("direction", "right"))
        self._known_words = known
        self.max_length = max_length

    @classmethod
    def from_bytes(cls, tokenizer_json: bytes, *, max_length: int, source: str, reads_last: bool = False) -> Tokenizer:
        """Build from the content of a `tokenizer.json`; `source` is what errors call it.

        Padding and truncation stored in the file are switched off: they belong to whoever saved it. With `reads_last`
        the batches of texts say that the model's head reads the last token of each.

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
        known = known_words(tokenizer, content, max_length)
        return cls(tokenizer, max_length, _unknown_id(tokenizer, content), reads_last, known)

    @classmethod
    def from_folder(cls, path: str | Path, max_length: int, *, reads_last: bool = False) -> Tokenizer:
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
        return cls.from_bytes(content, max_length=max_length, source=str(file), reads_last=reads_last)

    @cached_property
    def vocabulary_size(self) -> int:
        """Highest token id plus one, added tokens included: the embedding rows that a model needs."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, inputs: Sequence[Input]) -> TokenBatch:
        """Return the token ids of `inputs`, special tokens included: 1 to `max_length` of them per input.

        A batch is normally of one kind; in a mixed one each input comes out as it would alone. Lone surrogates count
        as U+FFFD. An input of which nothing is left (empty, and no special tokens) becomes the unknown token.

        - `str`: cut at `max_length`, at the end that the file says.
        - `Pair`: both texts by the file's own template for pairs, with `segments` where it tells them apart. Only the
          second text is cut.
        - `Words`: cut on the right; `reads` are the sequence's first token and then the first token of each word. A
          word that yields no token (spaces, control characters) becomes the unknown token, so that each word has a
          read until `max_length` is reached. Without a special token in front, the first two reads are one token.

        Raises:
            InputError: nothing is left of a text or a word, and the tokenizer has no unknown token; the first text
                of a pair leaves no room for the second; or the special tokens of pairs leave no room for texts.
        """
        batch = self._encoded(inputs)
        if not self._reads_last or batch.reads is not None:
            return batch
        return TokenBatch(batch.ids, batch.offsets, batch.segments, batch.offsets[1:] - 1)

    def uncut_length(self, item: str | Pair) -> int:
        """Return how many tokens a text or a pair of texts comes to before anything is cut, special tokens included."""
        texts = [item] if isinstance(item, str) else [item.first, item.second]
        tokens = sum(self._uncut_tokens(well_formed(text)) for text in texts)
        return tokens + int(self._tokenizer.num_special_tokens_to_add(len(texts) > 1))

    def _uncut_tokens(self, text: str) -> int:
        """Return how many tokens a text has, special ones left out."""
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        # What was cut off is kept beside what is left, piece by piece.
        return sum(len(part.ids) for part in (encoding, *encoding.overflowing))

    def _encoded(self, inputs: Sequence[Input]) -> TokenBatch:
        texts = [item for item in inputs if type(item) is str]
        if len(texts) == len(inputs):  # nearly always
            return self._encode_texts(texts, range(len(texts)))
        by_kind: dict[type, list[int]] = {}
        for row, item in enumerate(inputs):
            by_kind.setdefault(_kind(item), []).append(row)
        encoders: dict[type, Callable[[Any, list[int]], TokenBatch]] = {
            str: self._encode_texts,
            Pair: self._encode_pairs,
            Words: self._encode_words,
        }
        parts = [encoders[kind]([inputs[row] for row in rows], rows) for kind, rows in by_kind.items()]
        if len(parts) == 1:
            return parts[0]
        # Kind by kind, and then back into the order of the inputs.
        return _concatenated(parts).select(np.argsort(np.fromiter(chain(*by_kind.values()), np.int64)))

    def _encode_texts(self, texts: Sequence[str], rows: Sequence[int]) -> TokenBatch:
        # Long texts are not cut before this: a run of spaces gives no token and a word of any length may give
        # one, so no number of characters provably holds the first max_length tokens. 100,000 characters take
        # about 30 ms; limits on input belong to the server.
        known = [None if self._known_words is None else self._known_words.ids(text) for text in texts]
        if unknown := [well_formed(text) for text, ids in zip(texts, known, strict=True) if ids is None]:
            encodings = iter(self._tokenizer.encode_batch_fast(unknown))
            known = [next(encodings).ids if ids is None else ids for ids in known]
        return TokenBatch.from_sequences(
            [ids or self._unknown(f"Text {row}") for row, ids in zip(rows, known, strict=True)]
        )

    def _encode_pairs(self, pairs: Sequence[Pair], rows: Sequence[int]) -> TokenBatch:
        texts = [(well_formed(pair.first), well_formed(pair.second)) for pair in pairs]
        try:
            encodings = self._pair_tokenizer.encode_batch_fast(texts)
        except Exception as error:  # the library raises bare Exception, and does not say for which pair
            self._refuse_long_first(texts, rows, error)
            raise
        ids = [encoding.ids or self._unknown(f"Pair {row}") for row, encoding in zip(rows, encodings, strict=True)]
        batch = TokenBatch.from_sequences(ids, [encoding.type_ids or [0] for encoding in encodings])
        return batch if batch.segments is not None and batch.segments.any() else TokenBatch(batch.ids, batch.offsets)

    def _encode_words(self, sentences: Sequence[Words], rows: Sequence[int]) -> TokenBatch:
        words = [[well_formed(word) for word in sentence.words] for sentence in sentences]
        # Not encode_batch_fast, which does not say of which word a token is.
        encodings = self._word_tokenizer.encode_batch(words, is_pretokenized=True)
        read = [
            self._read_words(encoding, len(sentence), row)
            for encoding, sentence, row in zip(encodings, words, rows, strict=True)
        ]
        return TokenBatch.from_sequences([ids for ids, _ in read], reads=[reads for _, reads in read])

    def _read_words(self, encoding: tokenizers.Encoding, words: int, row: int) -> tuple[list[int], list[int]]:
        """Return the ids of a sentence and the places to read, every word within `max_length` among them."""
        ids, word_ids = encoding.ids, encoding.word_ids
        firsts: dict[int, int] = {}  # of each word that has a token, in order
        for place, word in enumerate(word_ids):
            if word is not None:
                firsts.setdefault(word, place)
        has_gap = next(reversed(firsts), -1) != len(firsts) - 1
        if has_gap or (len(firsts) < words and len(ids) < self.max_length):
            return self._filled(encoding, words, row)
        return ids or self._unknown(f"Sentence {row}"), [0, *firsts.values()]

    def _filled(self, encoding: tokenizers.Encoding, words: int, row: int) -> tuple[list[int], list[int]]:
        """Return ids and reads of a sentence with the unknown token for each word that has no token."""
        tokens: dict[int, list[int]] = {}
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word is not None:
                tokens.setdefault(word, []).append(token)
        specials = encoding.ids[: self._prefix], encoding.ids[self._prefix + sum(map(len, tokens.values())) :]
        room = self.max_length - sum(map(len, specials))
        body: list[int] = []
        reads = [0]
        for word in range(words):
            if len(body) >= room:
                break
            reads.append(self._prefix + len(body))
            body += tokens.get(word) or self._unknown(f"Word {word} of sentence {row}")
        return [*specials[0], *body[:room], *specials[1]], reads

    @cached_property
    def _pair_tokenizer(self) -> tokenizers.Tokenizer:
        specials = self._tokenizer.num_special_tokens_to_add(True)
        if specials >= self.max_length:  # the library would cut nothing, or the first text too
            raise InputError(
                f"max_length is {self.max_length}, but the tokenizer adds {specials} special tokens to each pair of "
                f"texts: give at least {specials + 2}."
            )
        return self._truncating("only_second", self._direction)

    @cached_property
    def _word_tokenizer(self) -> tokenizers.Tokenizer:
        # Answers are told word by word from the first one on, so that a cut on the left would take the wrong ones.
        return self._truncating("longest_first", "right")

    def _truncating(self, strategy: str, direction: str) -> tokenizers.Tokenizer:
        """Return a tokenizer that cuts in another way: changing the one that other threads use would change theirs."""
        if (strategy, direction) == ("longest_first", self._direction):
            return self._tokenizer
        # All but the vocabulary, which is shared: 250,000 pieces take hundreds of MB. Added tokens keep their ids.
        content = msgspec.json.decode(self._tokenizer.to_str())
        vocabulary = {token.content: i for i, token in self._tokenizer.get_added_tokens_decoder().items()}
        content["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": ""}
        tokenizer = tokenizers.Tokenizer.from_str(msgspec.json.encode(content).decode())
        tokenizer.model = self._tokenizer.model
        tokenizer.enable_truncation(self.max_length, strategy=strategy, direction=direction)
        return tokenizer

    @cached_property
    def _prefix(self) -> int:
        """Number of special tokens before the text."""
        (probe,) = self._word_tokenizer.encode_batch([["a", "0", "."]], is_pretokenized=True)
        return next((place for place, word in enumerate(probe.word_ids) if word is not None), 0)

    def _refuse_long_first(self, texts: Sequence[tuple[str, str]], rows: Sequence[int], error: Exception) -> None:
        specials = self._tokenizer.num_special_tokens_to_add(True)
        for row, (first, second) in zip(rows, texts, strict=True):
            tokens = self._uncut_tokens(first)
            if tokens + specials + bool(second) > self.max_length:
                raise InputError(
                    f"Pair {row} of this batch: the first text, {shown(first)}, has {tokens} tokens and the special "
                    f"tokens are {specials}, which leaves no room for the second text within max_length "
                    f"{self.max_length}. Shorten the first text, or give a max_length of at least "
                    f"{tokens + specials + 1}."
                ) from error

    def _unknown(self, what: str) -> list[int]:
        if self._unknown_id is None:
            raise InputError(f"{what} of this batch is empty, and the tokenizer has no token to stand for that.")
        return [self._unknown_id]


def _kind(item: Input) -> type:
    return next(kind for kind in (str, Pair, Words) if isinstance(item, kind))


def _concatenated(parts: Sequence[TokenBatch]) -> TokenBatch:
    starts = np.cumsum([0, *(part.tokens for part in parts)])
    moved = list(zip(parts, starts[:-1], strict=True))
    ids = np.concatenate([np.zeros(0, np.int64), *(part.ids for part in parts)])
    offsets = np.concatenate([*(part.offsets[:-1] + start for part, start in moved), starts[-1:]])
    reads = np.concatenate([np.zeros(0, np.int64), *(part.read_places + start for part, start in moved)])
    segments = [np.zeros(part.tokens, np.int64) if part.segments is None else part.segments for part in parts]
    return TokenBatch(
        ids,
        offsets,
        np.concatenate(segments) if any(part.segments is not None for part in parts) else None,
        reads if any(part.reads is not None for part in parts) else None,
    )


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
    if isinstance(token, str):
        return tokenizer.token_to_id(token)
    # RoBERTa's byte-level BPE never meets an unknown text and names no token for it, but has one.
    return tokenizer.token_to_id("<unk>")


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
