"""`octavo search`, on a tiny stack whose models know nothing."""

import json

import pytest

from octavo.search.settings import read_tuned
from tests.unit.search.conftest import publish_stack, tiny_stack  # noqa: F401 - the same tiny stack

CORPUS = {"d0": "book a table", "d1": "what is the weather", "d2": "play some music", "d3": "红色的鞋"}


def write_lines(path, objects):
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), "utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    return write_lines(tmp_path / "corpus.jsonl", [{"_id": key, "text": text} for key, text in CORPUS.items()])


@pytest.fixture
def index(octavo, publish_stack, corpus, tmp_path):  # noqa: F811
    ran = octavo("search", "index", publish_stack(), "--corpus", corpus, "--out", tmp_path / "index", "--threads", 1)
    assert ran.code == 0, ran.err
    return tmp_path / "index"


@pytest.mark.parametrize("verb", ["index", "query", "tune", "evaluate"])
def test_the_help_teaches(octavo, verb):
    ran = octavo("search", verb, "--help")
    assert ran.code == 0
    assert f"\n   octavo search {verb}" in ran.out.replace("│", " ")
    assert "--json" in ran.out
    assert "Exit codes" in ran.out
    assert f" {verb} " in octavo("search", "--help").out


def test_an_index_is_made_and_changed(octavo, publish_stack, corpus, tmp_path):  # noqa: F811
    store, out = publish_stack(["embed"]), tmp_path / "index"
    ran = octavo("search", "index", store, "--corpus", corpus, "--out", out, "--threads", 1)
    assert "4 documents  (4 added)" in ran.out
    assert "vectors  flat, by embed 1 (fp32)" in ran.out
    new = write_lines(tmp_path / "new.jsonl", [{"_id": "d1", "text": "sun"}, {"_id": "d9", "text": "book"}])
    gone = tmp_path / "gone.txt"
    gone.write_text("d0\nd77\n", "utf-8")
    arguments = ["--corpus", new, "--delete", gone, "--out", out, "--threads", 1, "--json"]
    document = octavo("search", "index", store, *arguments).document
    assert [document[key] for key in ("documents", "added", "replaced", "deleted", "unknown_ids")] == [4, 1, 1, 1, 1]
    assert document["vectors_by"]["version"] == "1"
    gone.write_text("d9\n", "utf-8")
    assert octavo("search", "index", store, "--delete", gone, "--out", out, "--json").document["documents"] == 3


def test_fields_have_names(octavo, publish_stack, tmp_path):  # noqa: F811
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("sku,name,about,shop\n1,Shoes,red shoes,north\n", "utf-8")
    options = ["--id-field", "sku", "--title-field", "name", "--text-field", "about", "--keep", "shop", "--threads", 1]
    ran = octavo("search", "index", publish_stack(), "--corpus", corpus, "--out", tmp_path / "index", *options)
    assert ran.code == 0
    (answer,) = octavo("search", "query", tmp_path / "index", "red", "--json", "--threads", 1).document["answers"]
    (result,) = answer["results"]
    assert (result["id"], result["title"], result["fields"]) == ("1", "Shoes", {"shop": "north"})


def test_a_query_shows_results_and_stages(octavo, index):
    ran = octavo("search", "query", index, "what weather", "鞋", "--threads", 1)
    assert ran.code == 0
    assert "what weather" in ran.out
    assert "d1" in ran.out
    assert "红色的鞋" in ran.out
    assert "embed 2 · openvino-" in ran.out
    assert "rank 2 · openvino-" in ran.out
    assert "degraded" not in ran.out


def test_a_version_is_named_and_stages_are_left_out(octavo, index):
    ran = octavo(
        "search", "query", index, "weather", "--version-of", "embed=1", "--rerank", 0, "-k", 1, "--json", "--threads", 1
    )
    (answer,) = ran.document["answers"]
    stages = {stage["name"]: stage["version"] for stage in answer["stages"]}
    assert stages["embed"] == "1"
    assert "rank" not in stages
    assert [result["id"] for result in answer["results"]] == ["d1"]


def test_rules_are_applied(octavo, index, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rules]]\nwhen = {intent = "*"}\nmatch = {field = "id", equals = "d2"}\nfilter = true\n', "utf-8"
    )
    (answer,) = octavo("search", "query", index, "weather", "--rules", rules, "--json", "--threads", 1).document[
        "answers"
    ]
    assert [result["id"] for result in answer["results"]] == ["d2"]
    assert answer["rules"] == ["1: only id = d2"]


@pytest.fixture
def judged(tmp_path):
    """The options that name some queries and their judgements."""
    queries = write_lines(tmp_path / "q.jsonl", [{"_id": "q1", "text": "weather"}, {"_id": "q2", "text": "music"}])
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n", "utf-8")
    return ["--queries", queries, "--qrels", qrels, "--threads", 1]


def test_an_evaluation_is_a_table_a_page_and_json(octavo, index, judged, tmp_path):
    arguments = ["search", "evaluate", index, *judged]
    ran = octavo(*arguments, "--report", tmp_path / "search.html")
    assert ran.code == 1, "two queries decide nothing"
    assert "inconclusive" in ran.out
    assert "recall@100" in ran.out
    assert "octavo search evaluate" in (tmp_path / "search.html").read_text("utf-8")
    document = octavo(*arguments, "--rerank", 0, "--margin", 99, "--json").document
    assert list(document["stages"]) == ["bm25", "vectors", "fused"]
    for stage in document["stages"].values():
        for precision in ("fp32", "int8", "difference"):
            assert set(stage[precision]) == {"ndcg@10", "mrr@10", "recall@100"}
            assert set(stage[precision]["ndcg@10"]) == {"value", "low", "high"}


def test_what_tuning_found_is_kept_and_an_evaluation_goes_by_it(octavo, index, judged, publish_stack, tmp_path):  # noqa: F811
    ran = octavo("search", "tune", index, *judged)
    assert (ran.code, "weight 0" in ran.out) == (0, True), ran.err
    made = octavo("search", "tune", index, *judged, "--json").document
    assert made["tuned"]["ranker"] == "rank"
    assert read_tuned(index).weight == made["tuned"]["weight"]
    told = octavo("search", "evaluate", index, *judged, "--json").document
    assert told["rank_weight"] == made["tuned"]["weight"]
    other = publish_stack(["embed"], store=tmp_path / "other")
    ran = octavo("search", "tune", index, *judged, "--store", other)
    assert (ran.code, "nothing to tune" in ran.err) == (2, True)


def test_bad_input_is_a_sentence(octavo, index, publish_stack, corpus, tmp_path):  # noqa: F811
    store = tmp_path / "store"
    nowhere = tmp_path / "nowhere"
    for arguments, message in (
        (["index", store, "--corpus", nowhere, "--out", nowhere], "no such file"),
        (["index", store, "--out", nowhere], "There is nothing to do"),
        (["index", store, "--corpus", corpus, "--out", nowhere, "--update"], "there is no such index"),
        (["index", store, "--corpus", corpus, "--out", nowhere, "--embedder", "rank"], "no embedder 'rank'"),
        (["index", nowhere, "--corpus", corpus, "--out", nowhere], "cannot be listed"),
        (["query", nowhere, "a"], "there is no such index"),
        (["query", index, " "], "The query is empty"),
        (["query", index, "a", "--version-of", "embed"], "Write MODEL=VERSION"),
        (["query", index, "a", "--version-of", "embed=9"], "no version 9. There are: 1"),
        (["query", index, "a", "--ranker", "embed"], "no ranker 'embed'"),
        (["query", index, "a", "--rules", nowhere], "no such file"),
        (["query", index, "a", "--store", nowhere], "cannot be listed"),
        (["evaluate", index, "--queries", corpus, "--qrels", nowhere], "no such file"),
        (["evaluate", index, "--queries", corpus, "--qrels", corpus, "--version-of", "tag=1"], "columns"),
    ):
        ran = octavo("search", *arguments, "--json")
        assert ran.code == 2, (arguments, ran.err)
        assert message in ran.document["error"]["message"], arguments
    assert not nowhere.exists()


def test_the_store_is_remembered_until_it_is_gone(octavo, index, tmp_path):
    (tmp_path / "store").rename(tmp_path / "moved")
    ran = octavo("search", "query", index, "weather", "--threads", 1)
    assert ran.code == 2
    assert "Name it: --store" in ran.err
    assert octavo("search", "query", index, "weather", "--threads", 1, "--store", tmp_path / "moved").code == 0


def test_an_index_of_another_teacher_is_refused_with_the_fix(octavo, index, publish_stack, tmp_path):  # noqa: F811
    other = publish_stack(["embed"], covers=False, store=tmp_path / "other")
    ran = octavo("search", "query", index, "weather", "--store", other, "--threads", 1)
    assert ran.code == 2
    assert "Index the corpus again" in ran.err or "index the corpus with it" in ran.err


def test_options_of_searching_need_an_index(octavo, tmp_path):
    for option in (("--rules", tmp_path / "rules.toml"), ("--ranker", "rank"), ("--rank-weight", 0.5), ("--rerank", 5)):
        ran = octavo("serve", tmp_path, *option)
        assert ran.code == 2
        assert f"{option[0]} is about searching. Name what to search, too: --index INDEX" in ran.err


def test_a_ranker_that_the_store_lacks_is_refused_before_anything_serves(octavo, index, tmp_path):
    ran = octavo("serve", tmp_path / "store", "--index", index, "--ranker", "other", "--port", 0, "--admin-port", 0)
    assert ran.code == 2
    assert "there is no ranker 'other'. There are: rank." in ran.err


def test_what_the_store_lacks_for_an_index_is_said_at_the_start(octavo, index, tmp_path, monkeypatch):
    monkeypatch.setattr("octavo.serve.process.run", lambda *_args, **_options: None)
    store = tmp_path / "store"
    ran = octavo("serve", store, "--index", index)
    assert (ran.code, "note:" in ran.err) == (0, False)
    (store / "embed").rename(store / "embedder")
    (store / "other").symlink_to(store / "rank")
    ran = octavo("serve", store, "--index", index)
    assert ran.code == 0
    assert "no model 'embed', which made the index's vectors" in ran.err
    assert "several rankers (other, rank). Nothing is ranked unless one is named: --ranker" in ran.err
