import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.data.retrieval import beginning, read_retrieval
from octavo.errors import InputError

CORPUS = [
    {"_id": "d1", "title": "Paris", "text": "is in France."},
    {"_id": 2, "text": "Berlin is in Germany."},
    {"id": "d3", "title": "", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "where is Paris"}, {"_id": "q2", "text": "Berlin?"}, {"_id": "q3", "text": "dev's"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t2\t0\nq2\t2\t1\n"


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def _beir(folder, qrels=QRELS, corpus=CORPUS, queries=QUERIES, name="qrels/test.tsv"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(qrels)
    (folder / "corpus.jsonl").write_text(corpus if isinstance(corpus, str) else _lines(corpus))
    (folder / "queries.jsonl").write_text(queries if isinstance(queries, str) else _lines(queries))
    return path


def _pairs(folder, *rows):
    path = folder / "train.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["qrels/test.tsv", "qrels.test.tsv"])
def test_a_beir_folder_is_read_through_its_qrels(tmp_path, name):
    data = read_retrieval(_beir(tmp_path, name=name))
    assert data.query_ids == ["q1", "q2"]  # q3 was not judged here: it is of another split, and no query left out
    assert data.left_out == 0
    assert data.queries == ["where is Paris", "Berlin?"]
    assert data.document_ids == ["d1", "2", "d3"]
    assert data.documents == ["Paris is in France.", "Berlin is in Germany.", ""]
    assert data.relevance == [{0: 2.0}, {1: 1.0}]
    assert data.negatives == [(1,), ()]
    assert data.sources[1].endswith(":4")


def test_the_hash_covers_all_three_files(tmp_path):
    path = _beir(tmp_path)
    before = read_retrieval(path).sha256
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        file = tmp_path / name
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert read_retrieval(path).sha256 != before
        file.write_bytes(content)
    assert read_retrieval(path).sha256 == before


def test_the_hash_of_pairs_is_that_of_the_file(tmp_path):
    path = _pairs(tmp_path, {"query": "a", "document": "b"})
    assert read_retrieval(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "qrels",
    ["q1 0 d1 2\nq1 0 2 0\nq2 Q0 2 1\n", "q1\td1\t2\nq1\t2\t0\nq2\t2\t1", "\ufeff" + QRELS.replace("\n", "\r\n")],
    ids=["TREC", "no header", "byte-order mark and CRLF"],
)
def test_qrels_have_several_spellings(tmp_path, qrels):
    data = read_retrieval(_beir(tmp_path, qrels))
    assert data.relevance == [{0: 2.0}, {1: 1.0}]


def test_queries_without_a_relevant_document_are_left_out_and_counted(tmp_path):
    data = read_retrieval(_beir(tmp_path, QRELS + "q3\td1\t0\nq3\t2\t0\n"))
    assert data.query_ids == ["q1", "q2"]
    assert data.left_out == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qrels": "q1\td9\t1\n"}, [":1", "document 'd9'", "corpus.jsonl"]),
        ({"qrels": "q1\td1\t1\nq9\td1\t1\n"}, [":2", "query 'q9'", "queries.jsonl"]),
        ({"qrels": "q1\td1\tyes\n"}, [":1", "'yes'", "number"]),
        ({"qrels": "q1\td1\t-1\n"}, [":1", "-1", "at least 0"]),
        ({"qrels": "q1\td1\tnan\n"}, [":1", "nan"]),
        ({"qrels": "q1\td1\tinf\n"}, [":1", "inf"]),
        ({"qrels": "q1\td1\n"}, [":1", "2 columns"]),
        ({"qrels": "q1\td1\t0\n"}, ["no document is relevant"]),
        ({"qrels": ""}, ["no document is relevant"]),
        ({"corpus": ""}, ["corpus.jsonl", "empty"]),
        ({"queries": [*QUERIES, {"_id": "q4", "text": " "}]}, ["queries.jsonl:4", "empty"]),
        ({"queries": [*QUERIES, {"_id": "q1", "text": "x"}]}, ["queries.jsonl:4", "'q1' occurs twice"]),
        ({"corpus": [*CORPUS, {"_id": "2", "text": "x"}]}, ["corpus.jsonl:4", "'2' occurs twice"]),
        ({"corpus": [{"_id": "d1"}]}, ["corpus.jsonl:1", 'no "text"', "_id"]),
        ({"corpus": [{"_id": "d1", "text": 5}]}, ["corpus.jsonl:1", "5", "string"]),
        ({"corpus": [{"text": "x"}]}, ["corpus.jsonl:1", 'no "_id"']),
        ({"corpus": [{"_id": True, "text": "x"}]}, ["corpus.jsonl:1", "True"]),
        ({"corpus": "{nope\n"}, ["corpus.jsonl:1", "not valid JSON", "title"]),
        ({"queries": "[1]\n"}, ["queries.jsonl:1", "JSON object"]),
    ],
)
def test_a_beir_error_names_file_line_and_value(tmp_path, changes, words):
    with pytest.raises(InputError) as raised:
        read_retrieval(_beir(tmp_path, **changes))
    assert [word for word in words if word not in str(raised.value)] == []


def test_missing_files_are_named(tmp_path):
    path = _beir(tmp_path)
    with pytest.raises(InputError, match="this is a folder"):
        read_retrieval(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_retrieval(tmp_path / "qrels/none.tsv")
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(InputError, match=r"no corpus\.jsonl beside it"):
        read_retrieval(path)
    other = tmp_path / "rows.csv"
    other.write_text("x")
    with pytest.raises(InputError, match="rename"):
        read_retrieval(other)


def test_pairs_share_texts(tmp_path):
    data = read_retrieval(
        _pairs(
            tmp_path,
            {"query": "a", "document": "A"},
            {"query": "b", "doc": "B", "label": 1},
            {"query": "a", "document": "B", "negatives": ["C", "A"]},
            {"query": "b", "document": "C", "relevance": 0},
            {"query": "c", "document": "A", "score": 0},
        )
    )
    assert data.queries == ["a", "b"]
    assert data.documents == ["A", "B", "C"]
    assert data.relevance == [{0: 1.0, 1: 1.0}, {1: 1.0}]
    assert data.negatives == [(2,), (2,)]  # A is relevant to a, whatever a later line says
    assert data.left_out == 1


def test_names_of_sentence_transformers_are_read(tmp_path):
    rows = [{"anchor": "a", "positive": "A", "negative": "B"}, {"anchor": "b", "positive": "B", "negative_1": "A"}]
    data = read_retrieval(_pairs(tmp_path, *rows))
    assert data.relevance == [{0: 1.0}, {1: 1.0}]
    assert data.negatives == [(1,), (0,)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"document": "A"}, [":2", 'no "query"', "document"]),
        ({"query": "a"}, [":2", 'no "document"']),
        ({"query": " ", "document": "A"}, [":2", "empty"]),
        ({"query": "a", "document": None}, [":2", "None"]),
        ({"query": "a", "document": "A", "label": "1"}, [":2", "'1'", "number"]),
        ({"query": "a", "document": "A", "label": True}, [":2", "True"]),
        ({"query": "a", "document": "A", "label": 1e300}, [":2", "1e+300"]),
        ({"query": "a", "document": "A", "negatives": [3]}, [":2", "negatives", "3"]),
        ('{"query": "a"', [":2", "not valid JSON", "document"]),
        ("[" * 100_000, [":2", "not valid JSON"]),
    ],
)
def test_an_error_in_a_pair_names_the_line(tmp_path, row, words):
    with pytest.raises(InputError) as raised:
        read_retrieval(_pairs(tmp_path, {"query": "a", "document": "A"}, row))
    assert [word for word in words if word not in str(raised.value)] == []


def test_text_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"query": "a", "document": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r":1: byte 0xe9"):
        read_retrieval(path)
    path.write_bytes(b"\n")
    with pytest.raises(InputError, match="no rows"):
        read_retrieval(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=5))
def test_any_text_is_read(tmp_path, pairs):
    rows = [{"query": f"?{query}", "document": document} for query, document in pairs]
    data = read_retrieval(_pairs(tmp_path, *rows))
    for text in [*data.queries, *data.documents]:
        text.encode()  # well formed
    assert {document for graded in data.relevance for document in graded} == set(range(len(data.documents)))


def test_odd_and_long_texts_are_kept(tmp_path):
    texts = ["\u202eRTL שלום", "🙂" * 3, "a\0b", "\ud83d", "x" * 100_000]
    data = read_retrieval(_pairs(tmp_path, *({"query": text, "document": text} for text in texts)))
    assert data.queries == ["\u202eRTL שלום", "🙂" * 3, "a\0b", "\ufffd", "x" * 100_000]


def test_a_documents_name_is_its_beginning_on_one_line():
    assert beginning(" a\n b\t c ") == "a b c"
    assert len(beginning("x" * 100_000)) == 80
    assert beginning("") == ""
