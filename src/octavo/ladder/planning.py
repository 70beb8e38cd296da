"""`plan_engine()`: measure which engine serves a release fastest here, and settle whether it may. Needs no torch.

The release is never changed: the plan lies in the cache, and beside it the certificate of an engine that the release
was not certified on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

from octavo.certify.certificate import Certificate, read_certificate
from octavo.data.logs import read_records
from octavo.engines.guard import Layout
from octavo.engines.hardware import this_hardware
from octavo.engines.open import Backend
from octavo.engines.plan import Plan, Traffic, backend_versions, keep_plan
from octavo.engines.select import Candidate, Choice, Contender, Measurement, candidates, choose, measure, measured_from
from octavo.errors import InputError, OctavoError, ReleaseError
from octavo.ladder.recertify import recertify, reference_folder
from octavo.progress import Progress, Silent
from octavo.store.contents import Golden, ReleaseConfig, content_from_bytes, input_from_json
from octavo.store.model import load
from octavo.store.release import Release, open_release
from octavo.store.serving import covering_certificate, keep_certificate
from octavo.tasks.base import Purpose, Task
from octavo.tasks.registry import task_from_settings
from octavo.text.batch import TokenBatch
from octavo.types import Input, Verdict

# Lengths of so many queries say all that lengths can say.
_MOST_QUERIES = 20_000


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, kept, and what follows from it.

    Attributes:
        plan: what was measured and chosen.
        file: where it is kept.
        certificate: of the chosen engine, where it was made now; None where the release's own covers that engine, or no
            rows were given.
        certified: the engine that the release itself was certified on.
        blocked: why the chosen engine does not serve from now on, in a sentence; empty where it does.
        rows_may_settle: whether certifying the chosen engine, which was not tried, may let it serve.
    """

    plan: Plan
    file: Path
    certificate: Certificate | None
    certified: Backend
    blocked: str
    rows_may_settle: bool


def plan_engine(
    release: Path,
    *,
    trace: Path | None = None,
    test: Path | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    threads: int | None = None,
    backend: Backend | None = None,
    budget_s: float = 30.0,
    timing_s: float = 20.0,
    progress: Progress | None = None,
) -> Planned:
    """Measure every engine that can run a release, keep the plan, and certify the chosen engine where that is due.

    Args:
        release: the release.
        trace: a query log, whose lengths are measured with; None for the release's golden inputs.
        test: held-out rows to certify the chosen engine on, if it is another one than was certified.
        batch_sizes: queries per call.
        threads: CPU threads; None for all.
        backend: the one to measure; None for all that are installed.
        budget_s: seconds to measure for, beside the time that building the engines takes.
        timing_s: bound on the latency measurement of a certificate, in seconds.
        progress: where to report.

    Raises:
        InputError: a trace or rows that cannot be used.
        ReleaseError: the release is missing or altered.
        EngineError: no engine can run it, or the plan cannot be kept.
    """
    progress = progress or Silent()
    opened = open_release(release, progress)
    config = content_from_bytes(opened.read("config.json"), ReleaseConfig, f"{opened.folder}/config.json")
    task = task_from_settings(config.task, config.settings, f"{opened.folder}/config.json")
    if test:
        task.read(test, Purpose.TEST)  # rows that cannot be used are refused before the measuring
    inputs = _traffic(opened, task, trace)
    measurements, tokens = _measure(
        opened, config, inputs, sorted(set(batch_sizes)), threads, backend, budget_s, progress
    )
    choice = choose(measurements, Backend(config.backend))
    plan = _plan(opened, choice, measurements, _told(trace, tokens), threads)
    file = keep_plan(plan)
    certificate = _certified(opened, config, plan, test, timing_s, progress)
    own = read_certificate(opened.read("certificate.json"), f"{opened.folder}/certificate.json")
    blocked = _blocked(opened, config, plan, own, certificate)
    may_settle = bool(blocked) and certificate is None and own.verdict is Verdict.PASS
    return Planned(plan, file, certificate, Backend(config.backend), blocked, may_settle)


def _traffic(release: Release, task: Task, trace: Path | None) -> list[Input]:
    """Return what to measure with."""
    if trace is None:
        source = f"{release.folder}/golden.json"
        golden = content_from_bytes(release.read("golden.json"), Golden, source)
        return [input_from_json(written) for written in golden.inputs]
    groups = (task.inputs_from_log(record, where) for record, where in read_records([trace]))
    inputs = list(islice(chain.from_iterable(groups), _MOST_QUERIES))
    if not inputs:
        raise InputError(f"{trace}: there is no query in it.")
    return inputs


def _measure(
    release: Release,
    config: ReleaseConfig,
    inputs: Sequence[Input],
    batch_sizes: Sequence[int],
    threads: int | None,
    backend: Backend | None,
    budget_s: float,
    progress: Progress,
) -> tuple[list[Measurement], TokenBatch]:
    """Open every candidate and measure those that open; also return the traffic's tokens."""
    folders = dict.fromkeys(candidates(config.precision, this_hardware().packages, backend), release.folder)
    refused: list[Measurement] = []
    if config.precision != "fp32":
        reference = Candidate(Backend.OPENVINO, Layout.BUCKETED, "fp32", is_reference=True)
        try:
            folders[reference] = reference_folder(release)
        except ReleaseError as error:
            refused.append(Measurement(reference, reason=str(error)))
    contenders: dict[Candidate, Contender] = {}
    with ExitStack() as stack:
        with progress.step("build engines", len(folders)) as bar:
            for candidate, folder in folders.items():
                bar.advance(0, f"{candidate.backend} {candidate.layout or ''}".strip())
                try:
                    contenders[candidate] = _contender(candidate, folder, inputs, threads, stack)
                except OctavoError as error:
                    refused.append(Measurement(candidate, reason=str(error)))
                bar.advance()
        if all(candidate.is_reference for candidate in contenders):
            choose(refused, Backend(config.backend))  # raises, and says why of each
        measured = measure(contenders, batch_sizes, budget_s=budget_s, progress=progress)
        tokens = next(one.traffic for candidate, one in contenders.items() if not candidate.is_reference)
    return [*measured, *refused], tokens


def _contender(
    candidate: Candidate, folder: Path, inputs: Sequence[Input], threads: int | None, stack: ExitStack
) -> Contender:
    """Load a candidate until `stack` ends: built, warmed up, and with the golden answers that it has to give."""
    model = stack.enter_context(
        load(
            folder,
            backend=candidate.backend,
            threads=threads,
            layout=candidate.layout or Layout.BUCKETED,
            allow_uncertified=True,
        )
    )
    return Contender(model.engine, model.tokenizer.encode(inputs))


def _told(trace: Path | None, tokens: TokenBatch) -> Traffic:
    return Traffic(str(trace) if trace else None, len(tokens), tokens.tokens / len(tokens), tokens.max_length)


def _plan(
    release: Release, choice: Choice, measurements: Sequence[Measurement], traffic: Traffic, threads: int | None
) -> Plan:
    chosen = choice.measurement
    return Plan(
        release_sha256=release.sha256,
        model=release.model,
        version=release.version,
        backend=chosen.candidate.backend,
        layout=chosen.candidate.layout,
        engine_id=chosen.engine_id,
        threads=threads,
        why=choice.why,
        int8_pays=choice.int8_pays,
        traffic=traffic,
        rounds=len(next(iter(chosen.rounds_ms.values()))),
        measured=measured_from(measurements),
        versions=backend_versions(),
        hardware=this_hardware(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _certified(
    release: Release, config: ReleaseConfig, plan: Plan, test: Path | None, timing_s: float, progress: Progress
) -> Certificate | None:
    """Certify the plan's engine and keep the certificate, if there are rows and the release's own is for another."""
    if test is None or plan.backend == config.backend:
        return None
    certificate = recertify(
        release.folder,
        test,
        backend=plan.backend,
        threads=plan.threads,
        layout=plan.layout or Layout.BUCKETED,
        timing_s=timing_s,
        progress=progress,
    )
    keep_certificate(release, plan.backend, certificate)
    return certificate


def _blocked(release: Release, config: ReleaseConfig, plan: Plan, own: Certificate, made: Certificate | None) -> str:
    """Say why the plan's engine may not serve; empty where the release passed, and so did this engine."""
    if own.verdict is not Verdict.PASS:
        return f"The release's own certificate says '{own.verdict}', so nothing serves it."
    if covering_certificate(release, config, own, plan.backend) is not None:
        return ""
    if made is not None:
        return f"On {plan.backend} the verdict is '{made.verdict}': {made.reason}"
    return f"The release was certified on {config.backend}, and not on {plan.backend}."
