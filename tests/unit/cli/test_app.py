import errno
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import octavo as package
from octavo.cli import app
from octavo.cli.app import asks_for_json, main, reflowed
from octavo.cli.options import EngineName, fraction_from_points
from octavo.engines.open import Backend
from octavo.errors import InputError, OctavoWarning

VERBS = [
    "demo",
    "trim-vocab",
    "finetune",
    "compress",
    "predict",
    "build",
    "cost",
    "candidates",
    "certify",
    "report",
    "overview",
]
VERBS += ["releases", "verify", "version"]


def test_help_lists_every_verb_and_no_completion_noise(octavo):
    ran = octavo("--help")
    assert ran.code == 0
    assert all(f" {verb} " in ran.out for verb in VERBS)
    assert "completion" not in ran.out
    assert octavo().out == ran.out


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_teaches(octavo, verb):
    ran = octavo(verb, "--help")
    assert ran.code == 0
    assert f"\n   octavo {verb}" in ran.out.replace("│", " "), "an example, on a line of its own"
    assert "[bold]" not in ran.out
    assert "--json" in ran.out
    assert "Exit codes" in ran.out
    assert "'octavo'" not in ran.out, "an extra in brackets is no markup"


def test_the_version_is_printed_twice_over(octavo):
    assert octavo("--version").out == f"octavo {package.__version__}\n"
    ran = octavo("version", "--json")
    assert ran.document["octavo"] == package.__version__
    assert ran.document["numpy"]
    assert "numpy" in octavo("version").out


def test_engine_names_are_the_backends():
    assert [*map(str, EngineName)] == ["auto", *map(str, Backend)]
    assert [name.named for name in EngineName] == [None, *map(str, Backend)]


def test_points_become_fractions():
    assert fraction_from_points(0.5) == 0.005
    assert fraction_from_points(1.1) == 0.011


def test_paragraphs_are_joined_and_examples_are_not():
    assert reflowed("One\n    two.\n\n      octavo a\n      octavo b\n") == "One two.\n\n  octavo a\n  octavo b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["predict"], "RELEASE"),
        (["compress", "x", "--bogus"], "--bogus"),
        (["compress", "x", "--margin", "much"], "--margin"),
        (["compress", "x", "--margin", "0"], "--margin"),
        (["compress", "x", "--epochs", "-1"], "--epochs"),
        (["predict", "x", "--engine", "abacus"], "--engine"),
        (["predict", "x", "--threads", "0"], "--threads"),
        (["certify", "x"], "--test"),
        (["build", "x", "--batch", "0"], "--batch"),
        (["build", "x", "--budget", "0"], "--budget"),
        (["finetune", "x", "--train", "a"], "--dev"),
    ],
)
def test_usage_errors_name_the_option_and_the_help(octavo, arguments, message):
    ran = octavo(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert "--help" in ran.err
    as_json = octavo(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.document["error"]["kind"] == "UsageError"
    assert message in as_json.document["error"]["message"]


def test_json_is_seen_before_the_arguments_and_not_among_them():
    assert asks_for_json(["predict", "r", "--json"])
    assert not asks_for_json(["predict", "r", "--", "--json"])


@pytest.mark.parametrize(
    ("error", "code", "kind", "words"),
    [
        (InputError("train.jsonl:3: no label."), 2, "InputError", "train.jsonl:3"),
        (PermissionError(errno.EACCES, "Permission denied", "/store/a"), 2, "OSError", "Permission denied (/store/a)"),
        (OSError(errno.ENOSPC, "No space left on device", "/store/a"), 2, "OSError", "The disk is full (/store/a)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "OSError", "The disk is full."),
        (MemoryError(), 2, "MemoryError", "memory"),
        (KeyboardInterrupt(), 130, "Interrupted", "Stopped"),
        (ZeroDivisionError("a\nb"), 70, "Bug", "a bug in Octavo: ZeroDivisionError: a b"),
    ],
)
def test_every_error_is_a_sentence_and_an_exit_code(octavo, monkeypatch, error, code, kind, words):
    def raising(_arguments):
        raise error

    monkeypatch.setattr(app, "_run", raising)
    ran = octavo("verify", "x", "--json")
    assert ran.code == code
    assert words in ran.err
    assert ran.document["error"]["kind"] == kind
    assert ("OCTAVO_DEBUG=1" in ran.err) == (kind == "Bug")


def test_debugging_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("OCTAVO_DEBUG", "1")
    assert main(["verify", "/nowhere"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_our_own_warnings_are_notes_and_those_of_libraries_are_for_debugging(octavo, monkeypatch, capsys):
    def warning(_arguments):
        warnings.warn("OpenVINO serves.", OctavoWarning, stacklevel=1)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(app, "_run", warning)
    assert octavo("verify", "x").err == "note: OpenVINO serves.\n"
    monkeypatch.setenv("OCTAVO_DEBUG", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["verify", "x"])
    assert "DeprecationWarning: deprecated" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error(store):
    command = [sys.executable, "-c", "import sys; from octavo.cli import main; sys.exit(main())", "verify", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert "rror" not in errors


def test_ctrl_c_while_the_program_loads_is_no_traceback():
    code = """
import builtins, sys
from octavo.cli import main
load = builtins.__import__
def stopped(name, *rest):
    if name == "octavo.cli.app":
        raise KeyboardInterrupt
    return load(name, *rest)
builtins.__import__ = stopped
sys.exit(main(["--help"]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "Stopped.\n")


def test_help_needs_no_heavy_package():
    code = """
import sys
from octavo.cli import main
main(["compress", "--help"])
heavy = {"numpy", "torch", "openvino", "onnxruntime", "tokenizers", "msgspec", "transformers"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_colours_only_where_they_are_wanted(store):
    command = [
        sys.executable,
        "-c",
        "import sys; from octavo.cli import main; sys.exit(main())",
        "releases",
        str(store),
    ]
    plain = subprocess.run(command, capture_output=True, check=True)
    assert b"\x1b" not in plain.stdout + plain.stderr


def test_a_terminal_without_the_character_gets_another(store):
    environment = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    command = [sys.executable, "-c", "import sys; from octavo.cli import main; sys.exit(main())", "verify", str(store)]
    ran = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert b"intents/1" in ran.stdout


def test_documents_hold_paths_and_structs(capsys, make_certificate):
    from octavo.cli import output

    output.emit({"path": Path("a/b"), "certificate": make_certificate()})
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == "a/b"
    assert document["certificate"]["verdict"] == "pass"
