import pytest

from octavo.errors import InputError
from octavo.search.judged import read_judged

QUERIES = '{"_id": "q1", "text": "red shoes"}\n{"id": 2, "text": "hat"}\n'


@pytest.fixture
def read(tmp_path):
    def run(qrels, queries=QUERIES):
        (tmp_path / "queries.jsonl").write_text(queries, "utf-8")
        (tmp_path / "qrels.tsv").write_text(qrels, "utf-8")
        return read_judged(tmp_path / "queries.jsonl", tmp_path / "qrels.tsv")

    return run


def test_beir_with_a_heading_and_trec_without(read):
    beir = read("query-id\tcorpus-id\tscore\nq1\td 1\t2\nq1\td2\t0\n2\td1\t1\n")
    assert (beir.ids, beir.queries) == (["q1", "2"], ["red shoes", "hat"])
    assert beir.relevance == [{"d 1": 2.0}, {"d1": 1.0}]
    assert read("q1 0 d1 2\nq1 0 d2 0\n2 0 d1 1\n").relevance == [{"d1": 2.0}, {"d1": 1.0}]


def test_the_highest_of_several_grades_counts_and_irrelevant_queries_are_left_out(read):
    judged = read("q1\td1\t1\nq1\td1\t3\n2\td1\t0\n")
    assert judged.relevance == [{"d1": 3.0}]
    assert judged.left_out == 1


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q9\td1\t1\n", r"qrels.tsv:1: the query 'q9' is not in .*queries.jsonl"),
        ("q1\td1\n", "qrels.tsv:1: .* has 2 columns"),
        ("q1\td1\t1\nq1\td1\tmuch\n", "qrels.tsv:2: the score is 'much'"),
        ("q1\td1\t-1\n", "qrels.tsv:1: the score is"),
        ("q1\td1\t0\n", "no document is relevant to any query"),
        ("", "no document is relevant to any query"),
    ],
)
def test_bad_judgements_are_named(read, qrels, message):
    with pytest.raises(InputError, match=message):
        read(qrels)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (QUERIES + '{"_id": "q1", "text": "again"}', "queries.jsonl:3: the id 'q1' occurs twice"),
        ('{"_id": "q1"}', 'queries.jsonl:1: there is no "text"'),
        ("", "the file has no rows"),
    ],
)
def test_bad_queries_are_named(read, queries, message):
    with pytest.raises(InputError, match=message):
        read("q1\td1\t1\n", queries)
