"""A smaller vocabulary that cuts a corpus into the same tokens: the tokenizer without the tokens that nobody uses.

Knows where `tokenizer.json` holds ids; `pieces` knows which tokens have to stay. Knows no embeddings and no model
folders: `kept` says which rows of a table belong to the new ids.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np
import tokenizers

from octavo.data.characters import shown, well_formed
from octavo.errors import InputError, ModelError
from octavo.text.pieces import KINDS, Entry, kept_entries, longest_matches, trimmed_model
from octavo.text.tokenizer import Tokenizer
from octavo.types import IntArray, Json

_CHUNK_TEXTS = 1_000
_SAMPLE_TEXTS = 2_000
_UNCUT_TOKENS = 1 << 30  # more than any text has


@dataclass(frozen=True, slots=True)
class TrimmedVocabulary:
    """A tokenizer with fewer tokens: `kept[new_id]` is the id that the token had."""

    tokenizer_json: bytes
    kept: IntArray  # (tokens,)


def trimmed_vocabulary(
    tokenizer_json: bytes, texts: Iterable[str], *, source: str, keep: Iterable[int] = ()
) -> TrimmedVocabulary:
    """Return the tokenizer without the tokens that `texts` do not use; it cuts these texts into the same tokens.

    Single characters and bytes, special and added tokens always stay: other texts are cut into smaller pieces at
    worst. New ids keep the order of the old ones. Memory grows with the vocabulary, not with the corpus.

    Args:
        tokenizer_json: content of a `tokenizer.json`.
        texts: the corpus; read once.
        source: what errors call the tokenizer.
        keep: ids that stay as well; those that stand for no token are ignored.

    Raises:
        ModelError: the tokenizer cannot be read, or is of a kind that cannot be trimmed.
        InputError: there are no texts.
    """
    tokenizer, content = _loaded(tokenizer_json, source)
    added = _added_ids(tokenizer, content)
    sample = _Sample(_SAMPLE_TEXTS)
    used = {*keep, *added.values(), *_ids_beside_the_vocabulary(content, source)}
    used |= _used_ids(tokenizer, content["model"], sample.watched(map(well_formed, texts)), source)
    if not sample.texts:
        raise InputError("There are no texts to trim the vocabulary to. Name a corpus that has some.")

    of_model = kept_entries(content["model"], used)
    known = {token for token, _ in of_model}
    # The library gives the added tokens that the model lacks the ids after the model's own, in their order.
    kept = [*of_model, *((token, old) for token, old in added.items() if token not in known)]
    trimmed = TrimmedVocabulary(
        msgspec.json.format(msgspec.json.encode(_trimmed_content(content, of_model, kept, source)), indent=2),
        np.array([old for _, old in kept], np.int64),
    )
    _check(trimmed, tokenizer, kept, sample.texts, source)
    return trimmed


def _loaded(tokenizer_json: bytes, source: str) -> tuple[tokenizers.Tokenizer, Json]:
    """Return a tokenizer that neither cuts nor pads, and its content."""
    # The check, and what it says, are those of the tokenizer that serves.
    Tokenizer.from_bytes(tokenizer_json, max_length=_UNCUT_TOKENS, source=source)
    tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    kind = type(tokenizer.model).__name__
    if kind not in KINDS:
        raise ModelError(
            f"{source}: a {kind} tokenizer cannot be trimmed. It knows whole words only, and each one that is left "
            f"out would become unknown. Those that can be trimmed: {', '.join(KINDS)}."
        )
    content = msgspec.json.decode(tokenizer_json, type=Json)
    content["model"]["type"] = kind  # older files leave it to the reader to guess
    return tokenizer, content


class _Sample:
    """Some texts of a stream, each as likely as any other, and the same ones every time."""

    def __init__(self, size: int) -> None:
        self.texts: list[str] = []
        self._size = size

    def watched(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass the texts on, and keep some of them."""
        generator = random.Random(0)
        for seen, text in enumerate(texts):
            if seen < self._size:
                self.texts.append(text)
            elif (place := generator.randrange(seen + 1)) < self._size:
                self.texts[place] = text
            yield text


def _used_ids(tokenizer: tokenizers.Tokenizer, model: Json, texts: Iterator[str], source: str) -> set[int]:
    """Return the ids that `texts` consist of, and those that WordPiece finds before it gives a word up."""
    unknown = model["vocab"].get(model["unk_token"]) if model["type"] == "WordPiece" else None
    used: set[int] = set()
    while chunk := list(islice(texts, _CHUNK_TEXTS)):
        for text, ids in zip(chunk, _encoded(tokenizer, chunk, source), strict=True):
            used.update(ids)
            if unknown in ids:
                used.update(model["vocab"][token] for token in _tokens_before_unknown(tokenizer, model, unknown, text))
    return used


def _encoded(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], source: str) -> list[list[int]]:
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library raises bare Exception, and a panic in its Rust code arrives as a BaseException.
    except BaseException as error:
        raise ModelError(f"{source}: the tokenizer fails on a text of the corpus ({error}).") from error


def _tokens_before_unknown(tokenizer: tokenizers.Tokenizer, model: Json, unknown: int, text: str) -> Iterator[str]:
    """Yield the tokens that the unknown words of `text` begin with.

    No encoding shows them, but they have to stay: in the place of one that is gone WordPiece would take a shorter
    one, and the next might reach over the character that nothing matched. The word would be unknown no more.
    """
    encoding = tokenizer.encode(text)
    for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if number == unknown:
            for word in _words(tokenizer, text[start:end]):
                yield from longest_matches(word, model)


def _words(tokenizer: tokenizers.Tokenizer, text: str) -> list[str]:
    normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    if not tokenizer.pre_tokenizer:
        return [normalized]
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]


def _added_ids(tokenizer: tokenizers.Tokenizer, content: Json) -> dict[str, int]:
    """Return the ids that the library really gives the added tokens: it goes by their order, not by the file's ids."""
    tokens = [one["content"] for one in content.get("added_tokens") or ()]
    return {token: old for token in tokens if (old := tokenizer.token_to_id(token)) is not None}


def _ids_beside_the_vocabulary(content: Json, source: str) -> set[int]:
    found: set[int] = set()

    def collect(old: int) -> int:
        found.add(old)
        return old

    _with_ids(content, collect, source)
    unknown = content["model"].get("unk_id")
    return found if unknown is None else found | {unknown}


def _trimmed_content(content: Json, of_model: list[Entry], kept: list[Entry], source: str) -> Json:
    new_ids = {old: new for new, (_, old) in enumerate(kept)}
    new_ids_by_token = {token: new for new, (token, _) in enumerate(kept)}

    def renumber(old: int) -> int:
        if old not in new_ids:
            raise ModelError(
                f"{source}: cannot be trimmed. Its post-processor or padding uses the id {old}, which no token has."
            )
        return new_ids[old]

    added = [one for one in content.get("added_tokens") or () if one["content"] in new_ids_by_token]
    return {
        **_with_ids(content, renumber, source),
        "added_tokens": [{**one, "id": new_ids_by_token[one["content"]]} for one in added],
        "model": trimmed_model(content["model"], of_model),
    }


def _with_ids(content: Json, change: Callable[[int], int], source: str) -> Json:
    """Return `content` with every id in padding and post-processor changed."""
    padding, processor = content.get("padding"), content.get("post_processor")
    return {
        **content,
        "padding": padding and {**padding, "pad_id": change(padding["pad_id"])},
        "post_processor": processor and _processor_with_ids(processor, change, source),
    }


def _processor_with_ids(processor: Json, change: Callable[[int], int], source: str) -> Json:
    match processor.get("type"):
        case "ByteLevel":
            return processor
        case "TemplateProcessing":
            specials = processor["special_tokens"].items()
            changed = {name: {**one, "ids": [change(old) for old in one["ids"]]} for name, one in specials}
            return {**processor, "special_tokens": changed}
        case "BertProcessing" | "RobertaProcessing":
            ends = {end: [processor[end][0], change(processor[end][1])] for end in ("sep", "cls")}
            return {**processor, **ends}
        case "Sequence":
            several = [_processor_with_ids(one, change, source) for one in processor["processors"]]
            return {**processor, "processors": several}
    raise ModelError(
        f"{source}: cannot be trimmed. Its post-processor is of an unknown type {processor.get('type')!r}."
    )


def _check(
    trimmed: TrimmedVocabulary, old: tokenizers.Tokenizer, kept: list[Entry], texts: Sequence[str], source: str
) -> None:
    """Compare the trimmed tokenizer with the old one.

    Raises:
        ModelError: it numbers its tokens in another way, or cuts one of `texts` in another way.
    """
    new, _ = _loaded(trimmed.tokenizer_json, f"{source}, trimmed")
    wanted = {token: new_id for new_id, (token, _) in enumerate(kept)}
    if new.get_vocab(with_added_tokens=True) != wanted:
        raise ModelError(f"{source}: cannot be trimmed. Some of its tokens would get the ids of others.")
    for text, before, after in zip(texts, _encoded(old, texts, source), _encoded(new, texts, source), strict=True):
        if trimmed.kept[after].tolist() != before:
            raise ModelError(f"{source}: cannot be trimmed. {shown(text)} would be cut into other tokens.")
