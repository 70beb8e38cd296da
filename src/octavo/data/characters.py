"""Strings that every part downstream accepts: the one place that deals with lone surrogates.

A JSON escape such as `"\\ud83d"` alone decodes to a Python string that has no UTF-8 form. Tokenizers refuse
it, files cannot hold it, and a server that passed it on would answer with an internal error.
"""

from __future__ import annotations


def well_formed(text: str) -> str:
    """Return `text` with every lone surrogate replaced by U+FFFD, and every surrogate pair joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text_key(*texts: str) -> str:
    """Return what two texts (or pairs) share when a person would call them the same: case and outer spaces ignored."""
    return "\t".join(text.strip().casefold() for text in texts)


def shown(text: str, characters: int = 60) -> str:
    """Return `text` quoted on one line and cut, for an error message."""
    cut = text if len(text) <= characters else text[: characters - 1] + "…"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"
