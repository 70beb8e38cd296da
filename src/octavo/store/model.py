"""A release, loaded and ready to answer: verified, certified, warmed up and checked against its golden answers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from octavo.certify.certificate import Certificate, read_certificate
from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import Layout, dummy_batch
from octavo.engines.open import HALF, HALF_BOUND, ROLE, Backend, open_engine
from octavo.errors import EngineError, OctavoWarning, ReleaseError
from octavo.store.contents import Golden, ReleaseConfig, content_from_bytes, input_from_json
from octavo.store.release import Release, open_release
from octavo.store.serving import Serving, check_certified, covering_certificate, ways_to_serve
from octavo.tasks.base import Task
from octavo.tasks.registry import task_from_settings
from octavo.text.batch import TokenBatch
from octavo.text.buckets import single_shapes
from octavo.text.layout import Positions
from octavo.text.tokenizer import Tokenizer
from octavo.types import Input, Outputs

# Of layouts without buckets, these lengths are warmed up: a shape each, and longer queries are few.
_WARM_LENGTHS = 64

# Tokenizers in use, by the sha256 of their file, the longest sequence and whether the last token is read. Versions of a
# model nearly always have the same; making it holds the interpreter for tens of milliseconds, while others serve.
_tokenizers: WeakValueDictionary[tuple[str, int, bool], Tokenizer] = WeakValueDictionary()


class Model:
    """A loaded release. Thread-safe. Close it, or use it in a `with` block.

    `certificate` is the one that covers the engine that runs, and the release's own where none does.
    """

    def __init__(
        self,
        release: Release,
        config: ReleaseConfig,
        certificate: Certificate,
        task: Task,
        tokenizer: Tokenizer,
        engine: Engine,
        backend: Backend,
    ) -> None:
        self.release = release
        self.config = config
        self.certificate = certificate
        self.backend = backend
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
    layout: Layout | str = Layout.BUCKETED,
    allow_uncertified: bool = False,
    check_answers: bool = True,
) -> Model:
    """Load a release: verify every hash, refuse it without a `pass`, build and warm up the engine, check its answers.

    Needs no torch. Where another engine serves than should, an `OctavoWarning` says so.

    Args:
        path: a release folder, a model's folder in a store (its `current` release), or `current` itself.
        backend: `native`, `openvino` or `onnxruntime`. None for the one that `octavo build` chose on this machine, if a
            certificate covers it; else for the one that was certified. The verdict holds for that one only.
        threads: CPU threads; None for as many as the engine was chosen with, or all.
        layout: how batches are padded, where a backend is named; else the choice is of a layout too.
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
    named = Backend(backend) if backend else None
    if not allow_uncertified:
        check_certified(release, config, certificate, named or Backend(config.backend))
    if named:
        covering = covering_certificate(release, config, certificate, named)
        return _load(release, config, certificate, Serving(named, covering, Layout(layout), threads), check_answers)
    return _load_best(release, config, certificate, threads, check_answers)


def _load_best(
    release: Release, config: ReleaseConfig, certificate: Certificate, threads: int | None, check_answers: bool
) -> Model:
    """Load the best way that can run here, and warn where that is not the first one."""
    ways, notes = ways_to_serve(release, config, certificate, threads)
    for note in notes:
        warnings.warn(note, OctavoWarning, stacklevel=3)
    for way, instead in pairwise(ways):
        try:
            return _load(release, config, certificate, way, check_answers)
        except EngineError as error:
            covered = "" if instead.certificate else ", which its certificate does not cover"
            message = (
                f"{release.folder}: it is to be served by {way.backend}, which cannot run it here. {error} "
                f"{instead.backend} serves in its place{covered}."
            )
            warnings.warn(message, OctavoWarning, stacklevel=3)
    return _load(release, config, certificate, ways[-1], check_answers)


def _load(
    release: Release, config: ReleaseConfig, certificate: Certificate, serving: Serving, check_answers: bool
) -> Model:
    task = task_from_settings(config.task, config.settings, f"{release.folder}/config.json")
    tokenizer = tokenizer_from_release(release, config.max_length, reads_last=task.head.reads_last)
    graph = graph_from_release(release, config, serving.backend)
    engine = open_engine(serving.backend, graph, threads=serving.threads, layout=serving.layout)
    covering = serving.certificate or certificate
    model = Model(release, config, covering, task, tokenizer, engine, serving.backend)
    try:
        engine.warm_up(_warm_up_batches(config, serving.layout))
        if check_answers:
            check_golden(model)
    except BaseException:
        model.close()
        raise
    return model


def tokenizer_from_release(release: Release, max_length: int, *, reads_last: bool) -> Tokenizer:
    """Return the tokenizer of a release: that of another one that is loaded, if their files are the same."""
    content = release.read("tokenizer.json")  # hashed: it is the file that the key names
    key = release.manifest.files["tokenizer.json"].sha256, max_length, reads_last
    if (tokenizer := _tokenizers.get(key)) is None:
        tokenizer = Tokenizer.from_bytes(
            content, max_length=max_length, source=f"{release.folder}/tokenizer.json", reads_last=reads_last
        )
    return _tokenizers.setdefault(key, tokenizer)


def _warm_up_batches(config: ReleaseConfig, layout: Layout) -> list[TokenBatch]:
    """Return batches of the shapes that single queries take, and of those that development rows did."""
    singles = [dummy_batch(shape) for shape in single_shapes(config.max_length)]
    if layout is not Layout.BUCKETED:
        lengths = range(1, min(config.max_length, _WARM_LENGTHS) + 1)
        singles = [TokenBatch.from_sequences([[0] * length]) for length in lengths]
    return [*singles, *(dummy_batch(shape) for shape in config.shapes)]


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
    certified = np.array(golden.outputs, np.float32)
    difference = float(np.abs(model.engine.run(batch) - certified).max())
    allowed = golden.tolerance
    if ROLE[model.backend] == HALF:
        allowed = max(allowed, HALF_BOUND * float(np.abs(certified).max()))
    if not difference <= allowed:
        raise ReleaseError(
            f"{source}: {model.engine.engine_id} answers differently on this machine: a value differs by "
            f"{difference:.4g}, and {allowed:.4g} is allowed. Certify the release here (octavo certify)."
        )
