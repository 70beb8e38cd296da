from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from octavo.search.web.snippet import snippet

WORDS = st.lists(st.text("abcdé中 ", min_size=1, max_size=8), max_size=60).map(" ".join)


def spans_of(text: str, word: str) -> list[tuple[int, int]]:
    found, at = [], 0
    while (place := text.find(word, at)) >= 0:
        found.append((place, at := place + len(word)))
    return found


@given(text=WORDS, word=st.sampled_from(["a", "b", "中", "cd"]), most=st.integers(30, 120))
def test_marks_in_a_snippet_are_marks_of_the_text(text: str, word: str, most: int) -> None:
    shown = snippet(text, spans_of(text, word), most)
    assert len(shown.text) <= most + 2
    assert shown.text.strip("…") in text
    assert all(start < end <= len(shown.text) for start, end in shown.spans)
    assert all(before[1] <= after[0] for before, after in pairwise(shown.spans))
    # A mark at the edge may be cut; all others are whole.
    assert all(shown.text[start:end] == word for start, end in shown.spans[1:-1])


def test_a_short_text_is_shown_whole() -> None:
    assert snippet("play some music", [(5, 9)]) == ("play some music", [(5, 9)])


def test_a_long_text_is_shown_where_most_words_of_the_query_are() -> None:
    text = f"music {'filler ' * 100}play music and more music {'filler ' * 100}"
    shown = snippet(text, spans_of(text, "music"), 80)
    assert [shown.text[start:end] for start, end in shown.spans] == ["music", "music"]
    assert shown.text.startswith("…")
    assert shown.text.endswith("…")


def test_a_snippet_begins_and_ends_with_whole_words() -> None:
    text = f"{'filler ' * 40}needle {'filler ' * 40}"
    words = snippet(text, spans_of(text, "needle"), 90).text.strip("… ").split()
    assert set(words) == {"filler", "needle"}


def test_a_long_text_without_words_of_the_query_is_shown_from_its_beginning() -> None:
    assert snippet("filler " * 100, [], 60).text.startswith("filler filler")
