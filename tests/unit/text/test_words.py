import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.text.words import text_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("turn on the lamp", "turn|on|the|lamp"),
        ("  what's up,\tdoc?\n", "what's|up,|doc?"),
        ("", ""),
        (" \u3000\n", ""),
        ("打开客厅的灯", "打|开|客|厅|的|灯"),
        ("打开lamp 2号。", "打|开|lamp|2|号|。"),
        ("「カーテン」を閉めて", "「|カ|ー|テ|ン|」|を|閉|め|て"),
        ("인사 영화", "인사|영화"),
        ("Ａ１ ｶﾅ，𠮷", "Ａ１|ｶ|ﾅ|，|𠮷"),
        ("か\u3099く 葛\U000e0100城", "か\u3099|く|葛\U000e0100|城"),
        ("a\ud83d b", "a\ufffd|b"),
    ],
)
def test_white_space_and_cjk_characters_divide(text, words):
    assert words_of(text) == tuple(filter(None, words.split("|")))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("turn", "on"), "turn on"),
        (("打", "开", "lamp", "二", "号"), "打开 lamp 二号"),
        (("葛\U000e0100", "城"), "葛\U000e0100城"),
        (("New York", "é"), "New York é"),
        (("打 开", "灯"), "打 开灯"),
        (("灯",), "灯"),
        ((), ""),
    ],
)
def test_words_are_joined_as_they_are_written(words, text):
    assert text_of(words) == text


@given(st.text() | st.text("ab 打开。カか\u3099\u3000\ufe00"))
def test_joined_words_are_divided_alike(text):
    words = words_of(text)
    assert words_of(text_of(words)) == words
    assert all(word and not any(c.isspace() for c in word) for word in words)


@given(st.text())
def test_no_character_is_lost_but_white_space(text):
    assert "".join(words_of(text)) == "".join(text.split())
