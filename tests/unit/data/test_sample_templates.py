import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.data.sample.templates import Chance, draw, parse, slots_of, wordings
from octavo.data.sample.values import in_words
from octavo.errors import InputError

RULES = {"the": "(the|my)", "lamp": "[<the> ]lamp[s]", "endless": "a <loop>", "loop": "b <endless>"}


def ways(template):
    """Every text of a template, as a person would write it."""
    return {" ".join(text.split()) for text in wordings(parse(template, RULES))}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("never mind", {"never mind"}),
        ("(a|b) c", {"a c", "b c"}),
        ("light[s]", {"light", "lights"}),
        ("timer [the|my]", {"timer", "timer the", "timer my"}),
        ("all [[of ](the|my)] x", {"all x", "all the x", "all my x", "all of the x", "all of my x"}),
        ("20[([ ]%)| percent]", {"20", "20%", "20 %", "20 percent"}),
        ("(a;b;c)", {"a b c", "a c b", "b a c", "b c a", "c a b", "c b a"}),
        ("turn (on;[here])", {"turn on", "turn on here", "turn here on"}),
        ("(x [y];in {area})", {"x in {area}", "x y in {area}", "in {area} x", "in {area} x y"}),
        ("<lamp> on", {"lamp on", "lamps on", "the lamp on", "the lamps on", "my lamp on", "my lamps on"}),
        ("({a}|)b", {"{a}b", "b"}),
        ("", {""}),
    ],
)
def test_the_grammar(template, expected):
    assert ways(template) == expected


def test_slots_know_their_list_and_their_name():
    slots = list(slots_of(parse("[{timer_hours:start_hours} hour] ({area};x)", {})))
    assert [(slot.values, slot.name) for slot in slots] == [("timer_hours", "start_hours"), ("area", "area")]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("turn (on|off", r"'\)' is missing, at character 13"),
        ("turn [on", r"'\]' is missing"),
        ("turn on)", r"'\)' is out of place, at character 8"),
        ("a|b", r"'\|' is out of place"),
        ("in {area", "'}' is missing"),
        ("(a|b;c)", "both"),
        ("<nowhere> x", "<nowhere> is unknown"),
        ("<endless>", "<endless> contains itself"),
        ("([)]", "is missing"),
    ],
)
def test_a_template_that_cannot_be_read_is_named(template, message):
    with pytest.raises(InputError, match=message):
        parse(template, RULES)


@given(st.text(alphabet="ab ()[]{}<>|;:", max_size=30))
def test_any_template_is_read_or_refused(template):
    with contextlib.suppress(InputError):
        assert list(wordings(parse(template, {"a": "b"})))


def test_a_drawn_sentence_is_one_of_the_wordings_and_all_of_them_come():
    tree = parse("<lamp> (on;[in] {area})", RULES)
    drawn = {"".join(piece for piece, _ in draw(tree, lambda s: f"{{{s.name}}}", Chance(str(i)))) for i in range(500)}
    assert {" ".join(text.split()) for text in drawn} == ways("<lamp> (on;[in] {area})")


def test_chance_follows_from_its_seed_alone():
    # The numbers are written down, so that another version of Python cannot change the sample unseen.
    chance = Chance("seed")
    assert [chance.below(1000) for _ in range(4)] == [186, 892, 954, 348]
    assert Chance("seed").shuffled("abcde") == Chance("seed").shuffled("abcde")
    assert Chance("seed").shuffled("abcde") != Chance("other").shuffled("abcde")
    assert sorted(Chance("seed").shuffled("abcde")) == list("abcde")


@pytest.mark.parametrize(
    ("number", "words"), [(0, "zero"), (20, "twenty"), (21, "twenty one"), (99, "ninety nine"), (100, "one hundred")]
)
def test_numbers_in_words(number, words):
    assert in_words(number) == words
