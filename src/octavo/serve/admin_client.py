"""Speaking to the admin API of a service on this machine, in the way that the command line does."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import quote

import msgspec

from octavo.errors import EngineError, InputError, OctavoError, ReleaseError
from octavo.serve.running import Running
from octavo.serve.status import Status

# A swap loads and warms up a release, and waits for requests to leave the old one.
_PATIENCE_S = 600.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listening on all addresses: this one is among them


def status_of(running: Running) -> Status:
    """Return the state of a service. Raises OctavoError."""
    return msgspec.json.decode(_ask(running, "GET", "/admin/status"), type=Status)


def change(running: Running, model: str, verb: str, body: Any = None) -> Any:
    """Have a model changed: `promote`, `rollback`, `canary`, `shadow` or `abort-trial`; return what became of it.

    Raises:
        OctavoError: it was refused; the message is the service's.
    """
    content = b"" if body is None else msgspec.json.encode(body)
    path = f"/admin/models/{quote(model, safe='')}/{verb}"
    return msgspec.json.decode(_ask(running, "POST", path, content))


def _ask(running: Running, method: str, path: str, body: bytes = b"") -> bytes:
    host = _ANYWHERE.get(running.admin_host, running.admin_host)
    connection = http.client.HTTPConnection(host, running.admin_port, timeout=_PATIENCE_S)
    where = f"The service of process {running.pid} on port {running.admin_port}"
    try:
        connection.request(method, path, body, {"authorization": f"Bearer {running.admin_key}"})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ReleaseError(f"{where} does not answer ({error}). Is it stopping? See its log.") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise _error_from(content, f"{where} answered {answer.status}.")
    return content


def _error_from(content: bytes, otherwise: str) -> OctavoError:
    """Return the error that the service raised, or the like of it."""
    try:
        error = msgspec.json.decode(content)["error"]
        kind, message = error["kind"], str(error["message"])
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
        return ReleaseError(otherwise)
    return {"InputError": InputError, "EngineError": EngineError}.get(kind, ReleaseError)(message)
