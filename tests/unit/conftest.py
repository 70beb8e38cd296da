"""What the unit tests of several rooms share: invented certificates, and tiny releases that engines can run."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.certify.certificate import Certificate, Hashes, certificate_json
from octavo.certify.certifying import Evidence, Identity, Timing, certificate_from
from octavo.certify.latency import measure
from octavo.engines.hardware import Hardware
from octavo.store.publish import new_version
from octavo.tasks.base import Answers
from octavo.text.layout import Positions
from octavo.types import Measure

TEXTS = ["book a table", "what is the weather", "cancel the order", "play some music", "turn it off", "book"]
LABELS = [f"label {i}" for i in range(5)]


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
        summaries = measure(timed, ["a", "b"], rounds=3, budget_s=1e9, clock=lambda: now_ns, core_clock=lambda: now_ns)
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


@dataclass(frozen=True)
class TinyModel:
    """The files of a release of one precision, but those that depend on where it goes."""

    precision: str
    files: dict[str, bytes]
    variants: dict[str, str]
    positions: Positions


@pytest.fixture(scope="session")
def tiny_models(make_classifier: Any, make_quantized: Any, make_folder: Any) -> dict[str, TinyModel]:
    """Return a random classifier in `fp32` and `int8`: graphs, tokenizer and golden answers."""
    import numpy as np

    from octavo.engines.graph import ModelGraph
    from octavo.engines.openvino import OpenVinoEngine
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.export.variants import u8_twin
    from octavo.store.contents import Golden, content_bytes
    from octavo.text.tokenizer import Tokenizer

    folder = make_folder("bert")
    batch = Tokenizer.from_folder(folder, max_length=16).encode(TEXTS)

    def tiny(precision: str) -> TinyModel:
        model = make_classifier() if precision == "fp32" else make_quantized()
        graph = onnx_from_model(model)
        files, variants = {"model.onnx": graph.SerializeToString()}, {"canonical": "model.onnx"}
        if precision == "int8":
            files["variants/model_u8.onnx"] = u8_twin(graph).SerializeToString()
            variants["u8"] = "variants/model_u8.onnx"
        graphs = {"canonical": files["model.onnx"]}
        engine = OpenVinoEngine(ModelGraph(precision, graphs, model.config.positions, 16, None), threads=1)
        golden = Golden(
            inputs=[*TEXTS],
            ids=[ids.tolist() for ids in np.split(batch.ids, batch.offsets[1:-1])],
            outputs=engine.run(batch).tolist(),
            tolerance=1.0,
        )
        files |= {"golden.json": content_bytes(golden), "tokenizer.json": (folder / "tokenizer.json").read_bytes()}
        engine.close()
        return TinyModel(precision, files, variants, model.config.positions)

    return {precision: tiny(precision) for precision in ("fp32", "int8")}


@pytest.fixture
def publish_tiny(
    tiny_models: dict[str, TinyModel], make_certificate: Callable[..., Certificate], tmp_path: Path
) -> Callable[..., Path]:
    """Publish the tiny model as `store/tiny`: version 1 is FP32, version 2 INT8 and current. Return its folder.

    `backend` is the one that was certified; `lost` of 1,000 rows it got wrong.
    """
    from octavo.store.contents import ReleaseConfig, content_bytes

    def publish(backend: str = "openvino", *, lost: int = 0, reference: bool = True, margin: float = 0.9) -> Path:
        store = tmp_path / "store"
        for version, precision in enumerate(("fp32", "int8"), 1):
            model = tiny_models[precision]
            engine = "openvino" if precision == "fp32" else backend
            config = ReleaseConfig(
                task="classify",
                settings={"labels": LABELS},
                precision=precision,
                backend=engine,
                max_length=16,
                position_offset=model.positions.offset,
                segment_stride=model.positions.segment_stride,
                family="bert",
                hidden_size=32,
                layers=2,
                heads=4,
                shapes=[],
            )
            sha256 = hashlib.sha256(model.files["model.onnx"]).hexdigest()
            certificate = make_certificate(
                lost=lost,
                margin=margin,
                model="tiny",
                version=str(version),
                rung=precision,
                engine_id=f"{engine}-1.0/{precision}",
                sha256=Hashes(sha256, "b" * 64, sha256),
            )
            with new_version(store, "tiny") as draft:
                for name, content in model.files.items():
                    draft.write(name, content)
                draft.write("config.json", content_bytes(config))
                draft.write("certificate.json", certificate_json(certificate))
                draft.commit(
                    task="classify",
                    rung=precision,
                    variants=model.variants,
                    teacher="1" if precision == "int8" and reference else None,
                    make_current=precision == "int8",
                )
        return store / "tiny"

    return publish


@pytest.fixture
def tiny_rows(tiny_models: dict[str, TinyModel], tmp_path: Path) -> Path:
    """Return held-out rows whose labels are the FP32 model's own answers."""
    golden = msgspec.json.decode(tiny_models["fp32"].files["golden.json"])
    file = tmp_path / "rows.jsonl"
    labels = [LABELS[max(range(5), key=row.__getitem__)] for row in golden["outputs"]]
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)] * 20
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let one engine be measured as the fastest, whatever it is; the FP32 reference takes `fp32_ms` a query."""
    from octavo.engines.guard import Layout
    from octavo.engines.select import Measurement
    from octavo.ladder import planning

    def let(backend: str, layout: str = Layout.BUCKETED, *, fp32_ms: float = 4.0) -> None:
        def ms(one: Any) -> float:
            if one.is_reference:
                return fp32_ms
            return 1.0 if (one.backend, one.layout) == (backend, layout) else 2.0

        def measured(contenders: Any, batch_sizes: Sequence[int], **_options: Any) -> list[Measurement]:
            return [
                Measurement(one, contender.engine.engine_id, {size: [ms(one)] * 3 for size in batch_sizes})
                for one, contender in contenders.items()
            ]

        monkeypatch.setattr(planning, "measure", measured)

    return let


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep plans and compiled engines of a test out of the user's cache; return the folder."""
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
