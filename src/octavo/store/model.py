"""A release, loaded and ready to answer: verified, certified, warmed up and checked against its golden answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from octavo.certify.certificate import Certificate, read_certificate
from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import dummy_batch
from octavo.engines.open import ROLE, Backend, open_engine
from octavo.errors import ReleaseError
from octavo.store.contents import Golden, ReleaseConfig, content_from_bytes, input_from_json
from octavo.store.release import Release, open_release
from octavo.tasks.base import Task
from octavo.tasks.registry import task_from_settings
from octavo.text.buckets import single_shapes
from octavo.text.layout import Positions
from octavo.text.tokenizer import Tokenizer
from octavo.types import Input, Outputs, Verdict


class Model:
    """A loaded release. Thread-safe. Close it, or use it in a `with` block."""

    def __init__(
        self,
        release: Release,
        config: ReleaseConfig,
        certificate: Certificate,
        task: Task,
        tokenizer: Tokenizer,
        engine: Engine,
    ) -> None:
        self.release = release
        self.config = config
        self.certificate = certificate
        self.tokenizer = tokenizer
        self.engine = engine
        self.task = task

    def predict(self, items: Sequence[Any]) -> list[Any]:
        """Return the answer to each item, in order.

        Items are texts for `classify`, `tag` (or lists of words) and `embed` (queries; documents are
        `octavo.tasks.embed.Document`), and a query with its documents, `(query, [document, ...])`, for `rank`.
        """
        return self.task.decode(self.outputs(self.task.prepare(items)), items)

    def outputs(self, inputs: Sequence[Input]) -> Outputs:
        """Return the head's outputs to some inputs, as the engine gives them."""
        batch = self.tokenizer.encode(inputs)
        return Outputs(self.engine.run(batch), batch.read_offsets)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    path: str | Path,
    *,
    backend: Backend | str | None = None,
    threads: int | None = None,
    allow_uncertified: bool = False,
    check_answers: bool = True,
) -> Model:
    """Load a release: verify every hash, refuse it without a `pass`, build and warm up the engine, check its answers.

    Needs no torch.

    Args:
        path: a release folder, a model's folder in a store (its `current` release), or `current` itself.
        backend: `openvino` or `onnxruntime`; None for the one that was certified. The verdict holds for that one only.
        threads: CPU threads; None for all.
        allow_uncertified: load a release whose certificate is not a `pass`, or which is asked to run on another
            engine than was certified.
        check_answers: compare the golden answers. Only certifying anew has a reason not to.

    Raises:
        ReleaseError: the release is missing, altered, not certified, or answers its golden texts differently here.
        EngineError: the engine cannot be built here.
    """
    release = open_release(Path(path))
    config = content_from_bytes(release.read("config.json"), ReleaseConfig, f"{release.folder}/config.json")
    certificate = read_certificate(release.read("certificate.json"), f"{release.folder}/certificate.json")
    chosen = Backend(backend) if backend else Backend(config.backend)
    if not allow_uncertified:
        check_certified(release, config, certificate, chosen)
    max_length = config.max_length
    task = task_from_settings(config.task, config.settings, f"{release.folder}/config.json")
    tokenizer = Tokenizer.from_bytes(
        release.read("tokenizer.json"),
        max_length=max_length,
        source=f"{release.folder}/tokenizer.json",
        reads_last=task.head.reads_last,
    )
    engine = open_engine(chosen, graph_from_release(release, config, chosen), threads=threads)
    model = Model(release, config, certificate, task, tokenizer, engine)
    try:
        shapes = [*single_shapes(max_length), *config.shapes]
        engine.warm_up([dummy_batch(shape) for shape in shapes])
        if check_answers:
            check_golden(model)
    except BaseException:
        model.close()
        raise
    return model


def graph_from_release(release: Release, config: ReleaseConfig, backend: Backend) -> ModelGraph:
    """Read the graph that `backend` loads out of a release."""
    variants = release.manifest.variants
    role = ROLE[backend] if ROLE[backend] in variants else "canonical"
    return ModelGraph(
        precision=config.precision,
        graphs={role: release.variant(role)},
        positions=Positions(config.position_offset, config.segment_stride),
        max_length=config.max_length,
        key=release.sha256,
        shapes=tuple(config.shapes),
    )


def check_certified(release: Release, config: ReleaseConfig, certificate: Certificate, backend: Backend) -> None:
    """Refuse what was not proved.

    Raises:
        ReleaseError: the verdict is no `pass`, the certificate is for other files, or for another engine.
    """
    at = f"{release.folder}"
    if certificate.verdict is not Verdict.PASS:
        raise ReleaseError(
            f"{at}: its certificate says '{certificate.verdict}': {certificate.reason} "
            "Use another version, or allow uncertified releases on purpose."
        )
    certified = {certificate.sha256.weights, certificate.sha256.engine}
    if not certified <= {entry.sha256 for entry in release.manifest.files.values()}:
        raise ReleaseError(f"{at}: its certificate was made for other weights. Publish the release again.")
    if backend != config.backend:
        raise ReleaseError(
            f"{at}: it was certified on {config.backend}, and {backend} was asked for. "
            "Certify it there (octavo certify --engine), or allow uncertified releases on purpose."
        )


def check_golden(model: Model) -> None:
    """Run the golden inputs and compare ids and outputs.

    Raises:
        ReleaseError: this machine gives other ids or other answers than were certified.
    """
    source = f"{model.release.folder}/golden.json"
    golden = content_from_bytes(model.release.read("golden.json"), Golden, source)
    batch = model.tokenizer.encode([input_from_json(written) for written in golden.inputs])
    if [ids.tolist() for ids in np.split(batch.ids, batch.offsets[1:-1])] != golden.ids:
        raise ReleaseError(f"{source}: the tokenizer gives other ids here than when the release was made.")
    difference = float(np.abs(model.engine.run(batch) - np.array(golden.outputs, np.float32)).max())
    if not difference <= golden.tolerance:
        raise ReleaseError(
            f"{source}: {model.engine.engine_id} answers differently on this machine: a value differs by "
            f"{difference:.4g}, and {golden.tolerance:.4g} is allowed. Certify the release here (octavo certify)."
        )
