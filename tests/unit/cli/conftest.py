import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.certify.certificate import (
    Certificate,
    Evidence,
    Hashes,
    Identity,
    Timing,
    certificate_from,
    certificate_json,
)
from octavo.certify.latency import measure
from octavo.cli import main
from octavo.engines.hardware import Hardware
from octavo.store.publish import new_version
from octavo.tasks.base import Answers
from octavo.types import Measure


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
def make_certificate() -> Callable[..., Certificate]:
    """Return a certificate of so many rows, the last `lost` of which the engine gets wrong."""
    import numpy as np

    def answers(rows: int, lost: int, metric: str, reported: Sequence[str]) -> Answers:
        right = np.ones(rows, np.float32)
        right[rows - lost :] = 0
        return Answers(
            measures=tuple(Measure(name, right, np.ones(rows, np.float32)) for name in (metric, *reported)),
            names=["ab"[int(wrong)] for wrong in 1 - right],
            agreement=right,
            confidence=np.full(rows, 0.9, np.float32),
            shown=np.stack([right, 1 - right], axis=1),
        )

    def make(
        *,
        rows: int = 1000,
        lost: int = 0,
        margin: float = 0.01,
        fp32_ms: float = 3.0,
        metric: str = "accuracy",
        reported: Sequence[str] = (),
        **changes: Any,
    ) -> Certificate:
        now_ns = 0

        def runner(ms: float) -> Callable[[Any], None]:
            def run(texts: Any) -> None:
                nonlocal now_ns
                now_ns += round(1e6 * ms * len(texts))

            return run

        timed = {"engine": runner(1.0), "torch_fp32": runner(9.0), "openvino_fp32": runner(fp32_ms)}
        summaries = measure(timed, ["a", "b"], rounds=3, budget_s=1e9, clock=lambda: now_ns)
        identity = Identity(
            **{
                "model": "intents",
                "version": "1",
                "task": "classify",
                "rung": "int8-qat",
                "metric": metric,
                "engine_id": "openvino-2026.4.1/int8/f32",
                "model_bytes": 23_400_000,
                "sha256": Hashes("a" * 64, "b" * 64, "c" * 64),
                "seeds": {"recipe": 0},
                "hardware": Hardware("a processor", 2, (), 2**30, "Linux", "3.12", {}),
                "created": "2026-01-02T03:04:05Z",
                **changes,
            }
        )
        evidence = Evidence(
            [f"query {i}" for i in range(rows)],
            ["a"] * rows,
            [5] * rows,
            answers(rows, 0, metric, reported),
            answers(rows, lost, metric, reported),
        )
        return certificate_from(evidence, identity, Timing(summaries.pop("engine"), summaries), margin)

    return make


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
