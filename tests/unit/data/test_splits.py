import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.data.rows import rows_in_memory
from octavo.data.splits import check_splits, split_by_group
from octavo.errors import InputError
from octavo.types import Row

LABELS = ("greeting", "refund", "tracking")


def _split(name, *pairs):
    return rows_in_memory(name, [Row(text, label, f"{name}.jsonl:{i}") for i, (text, label) in enumerate(pairs, 1)])


def test_clean_splits_have_no_warnings():
    whole = [(f"{label} {i}", label) for label in LABELS for i in range(3)]
    report = check_splits(_split("train", *whole[::3]), _split("dev", *whole[1::3]), _split("test", *whole[2::3]))
    assert report.warnings() == []


def test_leaks_repetitions_conflicts_and_absent_labels_are_reported():
    train = _split("train", ("Hello", "greeting"), ("hello ", "greeting"), ("money back", "refund"))
    dev = _split("dev", ("HELLO", "greeting"))
    test = _split("test", ("hello", "refund"), ("hello", "refund"), ("where is it", "greeting"))
    report = check_splits(train, dev, test, LABELS)
    assert report.shared == {("train", "dev"): 1, ("train", "test"): 2, ("dev", "test"): 2}
    assert report.repeated == {"train": 1, "test": 1}
    assert report.absent == {"train": ("tracking",), "test": ("tracking",)}
    (conflict,) = report.conflicts
    assert conflict.labels == ("greeting", "refund")
    assert conflict.sources == ("train.jsonl:1", "test.jsonl:1")
    warnings = report.warnings()
    assert len(warnings) == 3 + 2 + 1 + 2
    assert all(warning.endswith(".") and "\n" not in warning for warning in warnings)


def test_of_a_pair_both_texts_are_compared():
    def rows(name, *triples):
        return rows_in_memory(name, [Row(a, label, f"{name}:{i}", b) for i, (a, b, label) in enumerate(triples, 1)])

    train = rows("train", ("a", "b", "x"), ("a", "c", "y"), ("a", None, "y"))
    dev = rows("dev", ("A", " b", "x"), ("b", "a", "x"))
    test = rows("test", ("a", "C", "x"), ("a", "d", "y"))
    report = check_splits(train, dev, test)
    assert report.shared == {("train", "dev"): 1, ("train", "test"): 1}
    assert report.repeated == {}
    (conflict,) = report.conflicts
    assert (conflict.text, conflict.labels, conflict.sources) == ("a | c", ("y", "x"), ("train:2", "test:1"))
    parts = split_by_group(rows("all", *[("a", f"{i // 2}", "x") for i in range(200)]), {"a": 0.5, "b": 0.5})
    seconds = {name: {row.second for row in part.rows} for name, part in parts.items()}
    assert all(seconds.values())
    assert not seconds["a"] & seconds["b"]


@pytest.mark.parametrize(
    ("label", "hint"), [("refnud", "Did you mean 'refund'"), ("Refund", "'refund'"), ("zz", "Known")]
)
def test_an_unknown_label_names_its_line_and_suggests(label, hint):
    train = _split("train", *[("a " + known, known) for known in LABELS])
    with pytest.raises(InputError, match=r"test\.jsonl:2: ") as raised:
        check_splits(train, _split("dev"), _split("test", ("b", "refund"), ("c", label)))
    assert hint in str(raised.value)
    assert label in str(raised.value)


def test_a_missing_label_names_its_line():
    with pytest.raises(InputError, match=r"dev\.jsonl:1: this row has no label"):
        check_splits(_split("train", ("a", "refund")), _split("dev", ("b", None)), _split("test"))


def test_splits_of_one_name_are_told_apart():
    report = check_splits(_split("rows", ("a", "x")), _split("rows"), _split("rows", ("a", "x")))
    assert report.shared == {("train", "test"): 1}


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefghijklm"), min_size=1, max_size=40), st.integers(0, 5))
def test_no_group_is_divided_and_order_does_not_matter(groups, seed):
    rows = _split("all", *[(f"text {i}", "x") for i in range(len(groups))])
    fractions = {"train": 0.6, "dev": 0.1, "test": 0.3}
    parts = split_by_group(rows, fractions, groups=groups, seed=seed)
    where = {row.text: name for name, part in parts.items() for row in part.rows}
    assert sorted(where) == sorted(rows.texts)
    assert len({(group, where[row.text]) for group, row in zip(groups, rows.rows, strict=True)}) == len(set(groups))
    turned = rows_in_memory("all", rows.rows[::-1])
    again = split_by_group(turned, fractions, groups=groups[::-1], seed=seed)
    assert {row.text: name for name, part in again.items() for row in part.rows} == where


def test_fractions_are_met_on_average_and_equal_texts_stay_together():
    rows = _split("all", *[(f"text {i // 2}", "x") for i in range(4000)])
    parts = split_by_group(rows, {"a": 0.25, "b": 0.75}, seed=3)
    assert abs(len(parts["a"]) / 4000 - 0.25) < 0.05
    assert not set(parts["a"].texts) & set(parts["b"].texts)
    assert parts["a"].texts != split_by_group(rows, {"a": 0.25, "b": 0.75}, seed=4)["a"].texts


@pytest.mark.parametrize("fractions", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {}])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(InputError, match="sum to 1"):
        split_by_group(_split("all", ("a", "x")), fractions)


def test_each_row_needs_its_group():
    with pytest.raises(InputError, match="1 rows and 2 groups"):
        split_by_group(_split("all", ("a", "x")), {"a": 1.0}, groups=["g", "h"])
