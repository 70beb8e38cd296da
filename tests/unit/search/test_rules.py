import pytest

from octavo.errors import InputError
from octavo.search.documents import Document
from octavo.search.rules import Intent, Match, Rule, Slot, Understanding, When, applied, read_rules

DOCKER = Document("docker-ps", "docker-ps", "list containers", {"area": "Kitchen"})
GIT = Document("git-log", "git-log", "list commits")
UNDERSTOOD = Understanding(
    (Intent("tool", "docker", 0.8), Intent("home", "turn_on", 0.3)),
    (Slot("home", "area", "kitchen", 0, 7), Slot("home", "area", "hall", 8, 12)),
)


def boost(when, match, document, **does):
    return applied([Rule(when=when, match=match, **does)], UNDERSTOOD).boost(document)


def test_an_intent_boosts_what_matches():
    rule = {"when": When(intent="docker"), "match": Match(field="title", contains="{intent}"), "boost": 2.0}
    assert boost(document=DOCKER, **rule) == 2.0
    assert boost(document=GIT, **rule) == 1.0


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        (When(intent="docker", confidence=0.8), True),
        (When(intent="docker", confidence=0.81), False),
        (When(intent="*", confidence=0.9), False),
        (When(intent="*"), True),
        (When(intent="git"), False),
        (When(slot="area"), True),
        (When(slot="area", value="HALL "), True),
        (When(slot="area", value="cellar"), False),
        (When(slot="time"), False),
    ],
)
def test_which_queries_a_rule_is_for(when, applies):
    assert bool(applied([Rule(when=when, match=Match(field="id", equals="x"), boost=2.0)], UNDERSTOOD).rules) is applies


def test_a_filter_drops_what_does_not_match_any_of_the_slots():
    rule = {"when": When(slot="area"), "match": Match(field="area", equals="{slot}"), "filter": True}
    assert boost(document=DOCKER, **rule) == 1.0
    assert boost(document=GIT, **rule) == 0.0


def test_boosts_multiply_and_say_what_they_do():
    rules = [
        Rule(when=When(intent="docker"), match=Match(field="text", contains="LIST"), boost=2.0),
        Rule(when=When(intent="git"), match=Match(field="id", equals="git-log"), boost=9.0),
        Rule(when=When(slot="area", value="kitchen"), match=Match(field="area", equals="{slot}"), boost=0.25),
    ]
    found = applied(rules, UNDERSTOOD)
    assert (found.boost(DOCKER), found.boost(GIT)) == (0.5, 2.0)
    assert found.names == ("1: 2 × text ~ LIST", "3: 0.25 × area = kitchen")


def test_rules_are_read_from_toml_and_json(tmp_path):
    toml, json = tmp_path / "rules.toml", tmp_path / "rules.json"
    toml.write_text('[[rules]]\nwhen = {intent = "a"}\nmatch = {field = "id", equals = "b"}\nboost = 1.5\n', "utf-8")
    json.write_text('{"rules": [{"when": {"intent": "a"}, "match": {"field": "id", "equals": "b"}, "boost": 1.5}]}')
    expected = (Rule(when=When(intent="a"), match=Match(field="id", equals="b"), boost=1.5),)
    assert read_rules(toml).rules == read_rules(json).rules == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('when = {}\nmatch = {field = "id", equals = "b"}\nboost = 2', 'rule 1 needs either an "intent" or a "slot"'),
        ('when = {intent = "a", slot = "b"}\nmatch = {field = "id", equals = "b"}\nboost = 2', "rule 1 needs either"),
        ('when = {intent = "a"}\nmatch = {field = "id"}\nboost = 2', 'rule 1 needs either "equals" or "contains"'),
        ('when = {intent = "a"}\nmatch = {field = "id", equals = "b"}', "rule 1 does nothing"),
        ('when = {intent = "a"}\nmatch = {field = "id", equals = "b"}\nboost = 0', "boost"),
        ('when = {intent = "a"}\nmatch = {field = "id", equals = "b"}\nbost = 2', "bost"),
        ("when = 3", "when"),
        ("=", "rules.toml"),
    ],
)
def test_unfit_rules_are_refused(tmp_path, rule, message):
    path = tmp_path / "rules.toml"
    path.write_text(f"[[rules]]\n{rule}\n", "utf-8")
    with pytest.raises(InputError, match=message):
        read_rules(path)
