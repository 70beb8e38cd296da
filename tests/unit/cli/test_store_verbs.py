"""`releases`, `verify` and `report`: the verbs that only read a store."""

import json
import subprocess
import sys
import webbrowser

import pytest


def test_releases_are_listed_with_what_they_proved(octavo, store):
    ran = octavo("releases", store)
    assert ran.code == 0
    assert "▶ intents/1" in ran.out
    assert "int8-ptq-max" in ran.out
    assert "fail" in ran.out


def test_a_listing_as_json_has_the_names_of_the_certificate(octavo, store):
    listed = octavo("releases", store, "intents", "--json").document["releases"]
    assert [(one["version"], one["is_current"], one["verdict"]) for one in listed] == [
        ("1", True, "pass"),
        ("2", False, "fail"),
    ]
    certificate = json.loads((store / "intents/1/certificate.json").read_bytes())
    for name in ("metric", "engine", "difference", "margin", "rows", "engine_id", "latency_ms", "speedup"):
        assert listed[0][name] == certificate[name]
    assert listed[0]["size_bytes"] > 0


def test_a_broken_release_is_listed_with_what_is_wrong(octavo, store):
    (store / "intents/2/certificate.json").write_bytes(b"{}")
    (store / "intents/1/manifest.json").unlink()
    ran = octavo("releases", store)
    assert ran.code == 0
    assert ran.out.count("  broken") == 2
    assert "intents/1: " in ran.out
    assert "missing" in ran.out
    assert all(one["note"] for one in octavo("releases", store, "--json").document["releases"])


def test_a_whole_store_a_model_and_a_version_are_verified(octavo, store):
    for path, releases in (
        (store, 2),
        (store / "intents", 2),
        (store / "intents/2", 1),
        (store / "intents/current", 1),
    ):
        ran = octavo("verify", path, "--json")
        assert ran.code == 0
        assert ran.document["problems"] == 0
        assert len(ran.document["releases"]) == releases
    assert octavo("verify", store).out.count("✓") == 2


def test_every_problem_is_listed(octavo, store):
    folder = store / "intents/2"
    (folder / "model.onnx").write_bytes(b"not A graph")
    (folder / "report.html").unlink()
    (folder / "extra.py").write_text("print()", "utf-8")
    ran = octavo("verify", store)
    assert ran.code == 1
    assert "✓" in ran.out
    for words in ("model.onnx: altered", "report.html: missing", "extra.py: extra"):
        assert words in ran.out
    document = octavo("verify", folder, "--json").document
    assert document["problems"] == 3
    assert {one["file"] for one in document["releases"][0]["problems"]} == {"model.onnx", "report.html", "extra.py"}


def test_the_report_is_printed_and_not_opened(octavo, store, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda _url: pytest.fail("nobody asked for a browser"))
    assert octavo("report", store / "intents").out == f"{store}/intents/1/report.html\n"
    assert octavo("report", store / "intents/2", "--json").document == {"report": f"{store}/intents/2/report.html"}


def test_the_report_is_opened_and_copied_on_demand(octavo, store, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    ran = octavo("report", store / "intents", "--open", "--out", tmp_path / "copy.html")
    assert ran.code == 0
    assert opened == [(tmp_path / "copy.html").as_uri()]
    assert (tmp_path / "copy.html").read_text("utf-8") == "<html>the report</html>"
    assert "No browser" in ran.err


def test_a_copy_of_the_report_is_whole_or_an_error_with_its_name(octavo, store, tmp_path):
    assert octavo("report", store / "intents", "--out", tmp_path / "new" / "copy.html").code == 0
    assert (tmp_path / "new" / "copy.html").read_text("utf-8") == "<html>the report</html>"
    ran = octavo("report", store / "intents", "--out", tmp_path / "new")
    assert (ran.code, f"{tmp_path / 'new'}: cannot be written (Is a directory)." in ran.err) == (2, True)
    assert [one.name for one in tmp_path.iterdir() if "partial" in one.name] == []


def test_the_report_of_an_altered_release_is_not_trusted(octavo, store):
    (store / "intents/1/report.html").write_text("<html>better</html>", "utf-8")
    ran = octavo("report", store / "intents")
    assert ran.code == 2
    assert "report.html: cut" in ran.err


@pytest.mark.parametrize("verb", ["releases", "verify", "report", "predict"])
def test_what_is_no_store_or_release_is_said_to_be_none(octavo, tmp_path, verb):
    (tmp_path / "file").write_text("", "utf-8")
    (tmp_path / "empty").mkdir()
    for path in ("nowhere", "file", "empty"):
        ran = octavo(verb, tmp_path / path, "--json")
        assert ran.code == 2
        assert ran.document["error"]["kind"] == "ReleaseError"
        assert str(tmp_path / path) in ran.document["error"]["message"]


def test_a_store_where_a_release_is_meant_and_the_other_way_round(octavo, store):
    assert "Name one of its models: intents" in octavo("predict", store, "text").err
    assert f"octavo releases {store} intents" in octavo("releases", store / "intents").err
    assert "It has: intents" in octavo("releases", store, "other").err
    assert "not a model name" in octavo("releases", store, "../x").err


def test_a_failed_release_is_not_served_and_an_altered_one_never(octavo, store):
    ran = octavo("predict", store / "intents/2", "text")
    assert ran.code == 2
    assert "config.json" in ran.err or "'fail'" in ran.err
    (store / "intents/1/model.onnx").write_bytes(b"not A graph")
    ran = octavo("predict", store / "intents/1", "text", "--allow-uncertified")
    assert ran.code == 2
    assert "cannot be trusted" in ran.err


@pytest.mark.parametrize("verb", ["releases", "verify", "report"])
def test_reading_a_store_imports_no_torch(store, verb, tmp_path):
    for name in ("torch", "transformers", "onnx"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemError('{name} was imported')", "utf-8")
    code = "import sys; from octavo.cli import main; sys.exit(main())"
    path = store if verb != "report" else store / "intents"
    subprocess.run(
        [sys.executable, "-c", code, verb, str(path)],
        check=True,
        capture_output=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
