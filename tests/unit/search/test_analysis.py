import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.search.analysis import Marker, analyzer, spaced_document, spaced_query


def terms(text):
    return analyzer().analyze(spaced_document(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Running the Cafés, git-commit!", ["run", "the", "cafe", "git", "commit"]),
        ("ＲＥＤ ﬁle", ["red", "file"]),  # full-width letters and a ligature
        ("鞋", ["鞋"]),
        ("红鞋子red", ["红", "鞋", "子", "红鞋", "鞋子", "red"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー", "東京", "京タ", "タワ", "ワー"]),
        ("snake_case C3PO", ["snake", "case", "c3po"]),
        ("\0 \u200b (:*-~^", []),
    ],
)
def test_terms_of_documents(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(("query", "expected"), [("鞋", "鞋"), ("红鞋子 a", "红鞋 鞋子 a"), ("AND -x:(", "and x")])
def test_queries_look_for_pairs_of_ideographs(query, expected):
    assert spaced_query(query) == expected


@given(st.text(max_size=80))
def test_every_term_of_a_query_is_a_term_of_the_same_document(text):
    assert set(analyzer().analyze(spaced_query(text))) <= set(terms(text))


def test_words_of_the_query_are_found_in_the_text_that_is_shown():
    text = "Commits: undo the last 红色的鞋 COMMIT."
    found = Marker(analyzer()).spans(text, {"commit", "红色", "色的"})
    assert [text[start:end] for start, end in found] == ["Commits", "红色的", "COMMIT"]


@given(st.text(max_size=60), st.text(max_size=20))
def test_spans_are_apart_and_within_the_text(text, query):
    found = Marker(analyzer()).spans(text, set(analyzer().analyze(spaced_query(query))))
    flat = [place for span in found for place in span]
    assert flat == sorted(flat)
    assert all(0 <= start < end <= len(text) for start, end in found)
