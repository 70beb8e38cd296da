"""The admin API: swaps, trials and the state of the service, on a port of its own and with a key of its own.

Whoever holds the key may change what serves; nothing that clients of the service send can. Swaps block, so each runs in
a thread; one that is refused changes nothing and says why. `/metrics` needs no key: it is read only, and Prometheus
expects it so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.errors import EngineError, InputError, OctavoError, ReleaseError
from octavo.serve.http.keys import check_key, digests_of
from octavo.serve.metrics import CONTENT_TYPE
from octavo.serve.refusals import BadRequest, Refusal, TooLarge
from octavo.serve.registry import Change
from octavo.serve.status import Status, trial_status
from octavo.serve.trial import Mode
from octavo.serve.trial_record import TrialPlan, TrialRecord

Form = TypeVar("Form")

_MOST_BODY_BYTES = 64 << 10

_log = logging.getLogger(__name__)


class Swaps(Protocol):
    """What the admin API asks of the registry. Blocking, thread-safe."""

    def refresh(self, *, retry: bool = False) -> list[Change]:
        """Read the store again."""

    def promote(self, model: str, version: str) -> Change:
        """Let a version serve."""

    def rollback(self, model: str) -> Change:
        """Let the version serve that did before."""


class Trying(Protocol):
    """What the admin API asks of the rollout. Blocking, thread-safe."""

    def start(self, model: str, mode: Mode, plan: TrialPlan) -> TrialRecord:
        """Begin a trial."""

    def abort(self, model: str) -> TrialRecord:
        """End a trial."""


@dataclass(frozen=True, slots=True)
class Admin:
    """What the admin API does its work with.

    Attributes:
        registry: that swaps.
        rollout: that tries.
        status: returns the state of the service.
        metrics: returns what Prometheus reads.
        key: that has to be shown.
    """

    registry: Swaps
    rollout: Trying
    status: Callable[[], Status]
    metrics: Callable[[], bytes]
    key: str

    def promote(self, model: str, body: bytes) -> Any:
        """Let a version serve."""
        return self.registry.promote(model, _read(body, _Version).version)

    def rollback(self, model: str, body: bytes) -> Any:
        """Let the version serve that did before."""
        return self.registry.rollback(model)

    def canary(self, model: str, body: bytes) -> Any:
        """Let a version answer some of the requests."""
        return trial_status(self.rollout.start(model, Mode.CANARY, _read(body, TrialPlan)))

    def shadow(self, model: str, body: bytes) -> Any:
        """Let a version answer copies of some of the requests."""
        return trial_status(self.rollout.start(model, Mode.SHADOW, _read(body, TrialPlan)))

    def abort_trial(self, model: str, body: bytes) -> Any:
        """End a trial without promoting."""
        return trial_status(self.rollout.abort(model))

    def refresh(self, model: str, body: bytes) -> Any:
        """Read the store again; versions that failed are tried again too."""
        return {"changes": self.registry.refresh(retry=True)}


class _Version(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a promotion."""

    version: str


def create_admin(admin: Admin) -> Starlette:
    """Return the application."""
    keys = digests_of([admin.key])

    def check(request: Request) -> None:
        check_key(request.headers.get("authorization", "").encode("latin-1"), keys)

    def changing(path: str, act: Callable[[str, bytes], Any]) -> Route:
        async def handle(request: Request) -> Response:
            check(request)
            body = await _body(request)
            done = await run_in_threadpool(act, request.path_params.get("model", ""), body)
            return _json(done)

        return Route(path, handle, methods=["POST"])

    async def status(request: Request) -> Response:
        check(request)
        return _json(admin.status())

    async def metrics(request: Request) -> Response:
        return Response(admin.metrics(), media_type=CONTENT_TYPE)

    model = "/admin/models/{model}"
    routes: Sequence[Route] = (
        changing(f"{model}/promote", admin.promote),
        changing(f"{model}/rollback", admin.rollback),
        changing(f"{model}/canary", admin.canary),
        changing(f"{model}/shadow", admin.shadow),
        changing(f"{model}/abort-trial", admin.abort_trial),
        changing("/admin/refresh", admin.refresh),
        Route("/admin/status", status),
        Route("/metrics", metrics),
    )
    handlers: Any = {OctavoError: _failed, HTTPException: _no_such, Exception: _broken}
    return Starlette(routes=routes, exception_handlers=handlers)


async def _body(request: Request) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MOST_BODY_BYTES:
            raise TooLarge(f"The body is longer than {_MOST_BODY_BYTES} bytes.")
    return content


def _read(body: bytes, form: type[Form]) -> Form:
    """Return what a body says. Raises BadRequest."""
    try:
        return msgspec.json.decode(body or b"{}", type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not as it should be: {error}") from error


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content, enc_hook=str), status, headers, "application/json")


async def _failed(request: Request, error: Exception) -> Response:
    """Say why not. What the request cannot help (a damaged release) is a conflict with the state of the service."""
    match error:
        case Refusal():
            status = error.status
        case InputError():
            status = 400
        case ReleaseError() | EngineError():
            status = 409
        case _:
            status = 500
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return _json({"error": {"kind": type(error).__name__, "message": str(error)}}, status, headers)


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # that is what it is registered for
    message = f"{request.method} {request.url.path:.100}: {error.detail}."
    return _json({"error": {"kind": "NoSuchAddress", "message": message}}, error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _json({"error": {"kind": "Bug", "message": "The server failed. Its log says why."}}, 500)
