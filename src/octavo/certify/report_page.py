"""The shell of every page that is written: one file, no scripts, no outside hosts. Knows no certificate."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template


def page_html(*, title: str, kind: str, subject: str, headline: str, sections: Sequence[str], colophon: str) -> str:
    """Return a page.

    Args:
        title: plain text, as in the browser's tab.
        kind: of page, in a few plain words.
        subject: plain text from outside.
        headline: HTML.
        sections: HTML of each.
        colophon: HTML of the last line.
    """
    return Template(_resource("report.html")).substitute(
        title=escape(title),
        style=_resource("report.css"),
        kind=escape(kind),
        subject=f"<bdi>{escape(subject)}</bdi>",
        headline=headline,
        sections="\n".join(sections),
        colophon=colophon,
    )


def section(title: str, intro: str, *parts: str) -> str:
    """Return a section of HTML parts under a heading and an introduction."""
    return f'<section>\n<h2>{title}</h2>\n<p class="intro">{intro}</p>\n{"".join(parts)}\n</section>'


def figure(drawing: str, caption: str) -> str:
    """Return a drawing with its caption, both HTML."""
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def reproduce_section(reproduce: str) -> str:
    """Return the section with the commands that lead to the same page."""
    return section(
        "Reproduce it",
        "The same recipe, seed and machine give the same release.",
        f"<pre><code>{escape(reproduce.strip())}</code></pre>",
    )


def note_list(notes: Sequence[str]) -> str:
    """Return plain sentences as a list; nothing for none."""
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{listed}</ul>' if listed else ""


def _resource(name: str) -> str:
    return resources.files("octavo.certify").joinpath(name).read_text(encoding="utf-8")
