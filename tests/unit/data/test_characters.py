from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.data.characters import shown, text_key, well_formed


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_well_formed_changes_only_surrogates(text):
    result = well_formed(text)
    result.encode()
    assert well_formed(result) == result
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert result == text


def test_a_pair_of_surrogates_is_joined_and_a_broken_one_is_not():
    assert well_formed("\ud83d" + "\ude00") == "😀"
    assert well_formed("\ud83dabc\ude00") == "\ufffdabc\ufffd"


def test_what_an_error_shows_is_short_and_printable():
    assert shown("a" * 100) == "'" + "a" * 59 + "…'"
    assert shown("a\nb\ud800") == r"'a\nb\ud800'"


def test_texts_that_a_person_would_call_the_same_share_a_key():
    assert text_key("  Straße ") == "strasse"
    assert text_key("A ", "b") == text_key("a", " B") != text_key("a", "c")
