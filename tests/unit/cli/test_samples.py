"""The rows that the demo writes: which of them are for what."""

from pathlib import Path

from octavo.cli.samples import ENGLISH, TUNING_QRELS, Place
from octavo.progress import Silent


def test_queries_that_tune_the_search_train_no_model_and_judge_none(tmp_path):
    (match,) = [model for model in ENGLISH if model.task == "embed"]
    match.write(tmp_path, Place(Path("demo"), Silent()), False)
    lines = {name: (tmp_path / name).read_text("utf-8").splitlines() for name in (*match.files, TUNING_QRELS)}
    judged = {name: {line.split("\t")[0] for line in content[1:]} for name, content in lines.items()}
    assert {content[0] for content in lines.values()} == {"query-id\tcorpus-id\tscore"}
    assert len(lines[TUNING_QRELS]) == 301
    assert len(lines[match.files[0]]) == 513
    for name in match.files:
        assert not judged[TUNING_QRELS] & judged[name]
    # A part is like the whole: not the beginning of the alphabet.
    numbers = sorted(int(query[1:]) for query in judged[match.files[0]])
    assert numbers[-1] - numbers[0] > 1_000
