"""`octavo build`, on a tiny release; how fast engines are is invented."""

import subprocess
import sys

import pytest

from octavo.engines.guard import Layout
from octavo.engines.open import Backend

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_table_the_choice_and_what_follows(octavo, publish_tiny, fastest, tmp_path):
    fastest(Backend.OPENVINO, Layout.PADDED)
    trace = tmp_path / "queries.txt"
    trace.write_text("book a table\nplay some music\n", "utf-8")
    ran = octavo("build", publish_tiny(), "--trace", trace, "--threads", 1)
    assert ran.code == 0
    assert "▶ openvino padded" in ran.out
    assert "openvino bucketed fp32" in ran.out
    assert "openvino padded: It is the fastest, by 100% over" in ran.out
    assert "INT8 pays on this machine. Against the FP32 release it is faster by 4.0× alone, 4.0× in 32s." in ran.out
    assert f"2 texts of {trace}" in ran.out
    assert "auto takes openvino padded from now on." in ran.out
    assert "native was not measured: The native engine" in ran.out or "  native " in ran.out
    assert "golden" not in ran.out


def test_golden_inputs_are_said_to_be_measured_with(octavo, publish_tiny, fastest):
    fastest(Backend.OPENVINO)
    out = octavo("build", publish_tiny(), "--threads", 1).out
    assert "6 golden inputs of the release" in out
    assert "--trace" in out


def test_int8_that_does_not_pay_is_said_plainly(octavo, publish_tiny, fastest):
    fastest(Backend.OPENVINO, fp32_ms=0.5)
    ran = octavo("build", publish_tiny(), "--threads", 1, "--batch", 1)
    assert ran.code == 0
    assert "INT8 does not pay on this machine" in ran.out
    assert "0.50× alone" in ran.out
    assert "in 32s" not in ran.out


def test_another_engine_is_settled_by_the_command_that_is_named(octavo, publish_tiny, tiny_rows, fastest):
    folder = publish_tiny()
    fastest(Backend.ONNXRUNTIME)
    ran = octavo("build", folder, "--threads", 1)
    assert ran.code == 0
    assert "auto stays as it was. The release was certified on openvino, and not on onnxruntime." in ran.out
    assert f"octavo build {folder} --threads 1 --test ROWS" in ran.out
    assert "openvino-" in octavo("predict", folder, "book a table").err
    ran = octavo("build", folder, "--threads", 1, "--test", tiny_rows, "--timing-s", 0.1)
    assert ran.code == 0
    assert "pass: " in ran.out
    assert "auto takes onnxruntime bucketed from now on." in ran.out
    for engine in ((), ("--engine", "auto"), ("--engine", "onnxruntime")):
        assert "onnxruntime-" in octavo("predict", folder, "book a table", *engine).err


def test_json_has_the_plan_and_the_certificate(octavo, publish_tiny, tiny_rows, fastest):
    folder = publish_tiny(margin=0.01)
    fastest(Backend.ONNXRUNTIME)
    ran = octavo("build", folder, "--threads", 1, "--test", tiny_rows, "--timing-s", 0.1, "--json")
    assert ran.code == 1, "the gate said no"
    document = ran.document
    assert document["plan"]["backend"] == "onnxruntime"
    assert document["plan"]["int8_pays"] is True
    assert document["serves"] is False
    assert document["certificate"]["verdict"] in ("inconclusive", "fail")
    assert document["certificate"]["reason"] in document["blocked"]


def test_what_stands_in_is_noted_once(octavo, publish_tiny, monkeypatch):
    monkeypatch.setattr("octavo.engines.native.available", lambda: False)
    folder = publish_tiny("native")
    ran = octavo("predict", folder, "book a table")
    assert ran.code == 0
    assert ran.err.count("note: ") == 1
    assert "openvino serves in its place" in ran.err
    named = octavo("predict", folder, "book a table", "--engine", "native")
    assert named.code == 2
    assert "native engine" in named.err


def test_bad_input(octavo, publish_tiny, tmp_path):
    folder = publish_tiny()
    for arguments, message in (
        ((tmp_path / "nowhere",), "there is no such folder"),
        ((folder, "--trace", tmp_path / "missing.txt"), "missing.txt"),
        ((folder, "--test", tmp_path / "missing.jsonl"), "missing.jsonl"),
    ):
        ran = octavo("build", *arguments, "--json")
        assert ran.code == 2
        assert message in ran.document["error"]["message"]


def test_it_needs_no_torch(publish_tiny, tmp_path):
    for name in ("torch", "transformers"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemError('{name} was imported')", "utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from octavo.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "build", str(publish_tiny()), "--threads", "1", "--budget", "0.1"]
    subprocess.run(command, check=True, capture_output=True)


def test_an_engine_that_is_asked_for_and_cannot_run_is_refused_with_the_fix(octavo, publish_tiny):
    ran = octavo("build", publish_tiny(), "--engine", "tensorrt", "--threads", 1)
    assert ran.code == 2
    assert "No engine can run this release here" in ran.err
    assert "pip install 'octavo[tensorrt]'" in ran.err
    assert "Traceback" not in ran.err


def test_one_engine_is_measured_where_one_is_named(octavo, publish_tiny):
    ran = octavo("build", publish_tiny(), "--engine", "onnxruntime", "--threads", 1, "--budget", 0.1, "--json")
    assert ran.code == 0
    assert [one["backend"] for one in ran.document["plan"]["measured"]] == ["onnxruntime", "openvino"]
    assert ran.document["plan"]["measured"][1]["precision"] == "fp32"
