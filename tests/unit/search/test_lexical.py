import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import InputError, ReleaseError
from octavo.search.documents import Document
from octavo.search.lexical import Lexical, LexicalWriter, link_lexical

DOCUMENTS = [
    Document("shoes", "Red shoes", "running shoes in red", {"kind": "wear"}),
    Document("hat", "", "a blue hat"),
    Document("zh", "红色的运动鞋", ""),
    Document("red", "", "red"),
]


def write(folder, documents, first=0):
    writer = LexicalWriter(folder)
    for number, document in enumerate(documents, first):
        writer.add(number, document)
    writer.close()
    return Lexical(folder)


@pytest.fixture
def lexical(tmp_path):
    return write(tmp_path / "lexical", DOCUMENTS)


def test_documents_come_best_first(lexical):
    hits = lexical.search("RED shoe", 10)
    assert hits.numbers.tolist() == [0, 3]
    assert hits.scores[0] > hits.scores[1] > 0
    assert lexical.search("RED shoe", 1).numbers.tolist() == [0]


def test_equal_scores_come_by_number(tmp_path):
    equal = write(tmp_path / "equal", [Document(str(i), "", "same words") for i in range(9)])
    assert equal.search("same", 9).numbers.tolist() == list(range(9))


@pytest.mark.parametrize(("query", "found"), [("红色", [2]), ("鞋", [2]), ("运动鞋 hat", [2, 1]), ("绿色", [])])
def test_chinese_is_found_by_words_and_by_characters(lexical, query, found):
    assert lexical.search(query, 5).numbers.tolist() == found


@pytest.mark.parametrize(
    "query", ["", " ", "\0", "(" * 100_000, '"' * 999, "a:" * 5000, "[a TO", "-", "AND OR NOT", "/x("]
)
def test_hostile_queries_are_words_or_nothing(lexical, query):
    lexical.search(query, 5)
    assert len(lexical.terms(query)) <= 64


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_no_query_raises(lexical, query):
    assert len(lexical.search(query, 3).numbers) <= 3


def test_operators_are_no_orders(lexical):
    assert lexical.search("-red", 5).numbers.tolist() == lexical.search("red", 5).numbers.tolist()
    assert lexical.search("title:hat", 5).numbers.tolist() == [1]


def test_documents_and_numbers_are_looked_up(lexical):
    assert lexical.documents([2, 0, 99]) == {2: DOCUMENTS[2], 0: DOCUMENTS[0]}
    assert lexical.documents([]) == {}
    assert lexical.numbers(["hat", "nothing", "zh"]) == {"hat": 1, "zh": 2}


def test_a_document_replaces_the_one_of_its_id(tmp_path, lexical):
    writer = LexicalWriter(tmp_path / "lexical")
    writer.add(9, Document("hat", "", "green"))
    writer.delete(["red", "nothing"])
    writer.close()
    now = Lexical(tmp_path / "lexical")
    assert len(now) == 3
    assert now.search("hat", 5).numbers.tolist() == []
    assert now.numbers(["hat", "red"]) == {"hat": 9}
    assert len(lexical) == 4, "who had it open still has it"


def test_what_was_added_beyond_a_number_is_dropped(tmp_path, lexical):
    writer = LexicalWriter(tmp_path / "lexical")
    writer.delete_from(2)
    writer.close()
    assert Lexical(tmp_path / "lexical").numbers(["shoes", "hat", "zh", "red"]) == {"shoes": 0, "hat": 1}


def test_what_was_not_committed_is_gone(tmp_path, lexical):
    writer = LexicalWriter(tmp_path / "lexical")
    writer.add(5, Document("new", "", "new"))
    del writer
    assert len(Lexical(tmp_path / "lexical")) == 4


def test_a_linked_index_changes_alone(tmp_path, lexical):
    before = {file.name: file.read_bytes() for file in (tmp_path / "lexical").iterdir()}
    link_lexical(tmp_path / "lexical", tmp_path / "next")
    changed = write(tmp_path / "next", [Document("new", "", "new hat")], first=4)
    assert changed.search("hat", 5).numbers.tolist() == [4, 1]
    assert {file.name: file.read_bytes() for file in (tmp_path / "lexical").iterdir()} == before


def test_two_writers_and_missing_folders_are_refused(tmp_path, lexical):
    with pytest.raises(ReleaseError, match="this BM25 index cannot be opened"):
        Lexical(tmp_path / "nowhere")
    held = LexicalWriter(tmp_path / "lexical")
    with pytest.raises(InputError, match="cannot be written"):
        LexicalWriter(tmp_path / "lexical")
    held.close()


def test_words_that_most_documents_have_are_not_marked(tmp_path):
    texts = [f"the page of number {i}" for i in range(60)]
    lexical = write(tmp_path / "many", [Document(f"d{i}", "", text) for i, text in enumerate(texts)])
    assert lexical.marked([texts[7], texts[8]], "the number 7") == [[(19, 20)], []]
    assert lexical.marked([texts[7]], "the page") == [[(0, 3), (4, 8)]]  # nothing else to mark
