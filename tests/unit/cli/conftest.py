import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.certify.certificate import Certificate, certificate_json
from octavo.cli import main
from octavo.store.publish import new_version


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def octavo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command line in this process; whatever happens, it must not be a traceback."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("OCTAVO_DEBUG", raising=False)

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        ran = Ran(code, *capsys.readouterr())
        assert "Traceback" not in ran.out + ran.err
        return ran

    return run


@pytest.fixture
def store(tmp_path: Path, make_certificate: Callable[..., Certificate]) -> Path:
    """Return a store with the model `intents`: version 1 passed and is current, version 2 failed.

    Their files are whole, but hold no model that an engine could run.
    """
    folder = tmp_path / "store"
    for version, (rung, lost) in enumerate({"int8-qat": 0, "int8-ptq-max": 100}.items(), 1):
        certificate = msgspec.structs.replace(make_certificate(lost=lost, rung=rung), version=str(version))
        with new_version(folder, "intents") as draft:
            draft.write("certificate.json", certificate_json(certificate))
            draft.write("model.onnx", b"not a graph")
            draft.write("report.html", b"<html>the report</html>")
            draft.commit(task="classify", rung=rung, variants={"canonical": "model.onnx"}, make_current=version == 1)
    return folder
