"""The process of `octavo serve`: its ports, its life and its end, signals, and a store that is watched.

Live at once, ready when every model of the store has been tried. On SIGTERM or SIGINT it is not ready at once, serves
on while routers notice, lets what it has in hand end, and ends with 0; a second signal ends it now. SIGHUP reads the
store again, also what failed before, and opens the access log anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from octavo.errors import OctavoError
from octavo.serve.access_log import AccessLog
from octavo.serve.assembly import Extension, Observer, Parts, assemble
from octavo.serve.cores import settle_process
from octavo.serve.listening import HttpServer, closing, listen
from octavo.serve.running import Running, announced, running_services
from octavo.serve.settings import ServeSettings
from octavo.serve.tracing import Tracing
from octavo.store.versions import check_is_no_model, models

T = TypeVar("T")
OnLive = Callable[[Running, Path | None], None]

# Between the moment that no more connections are taken and the one that no more requests are.
_CLOSING_S = 0.5
_LOADER = "octavo-store"
_BESIDE = "beside the store"  # a name that no model can have

_log = logging.getLogger(__name__)


def run(
    settings: ServeSettings,
    *,
    admin_host: str = "127.0.0.1",
    access_log: str | None = None,
    tracing: bool = False,
    on_live: OnLive | None = None,
    extension: Extension | None = None,
) -> None:
    """Serve a store until a signal ends it.

    Args:
        settings: how.
        admin_host: that the admin API listens on; not where clients come from, unless it is asked for.
        access_log: file of the access log; `-` for stdout, None for none.
        tracing: send spans to OpenTelemetry.
        on_live: told where the service listens, and which file says so to others (None: it could not be written).
        extension: what another room adds to the service.

    Raises:
        ReleaseError: there is no such store, or it is one model of a store.
        InputError: a port or the access log cannot be had.
        MissingExtraError: tracing needs OpenTelemetry.
    """
    models(settings.store)
    check_is_no_model(settings.store)
    with ExitStack() as stack:
        ports = _Ports(
            stack.enter_context(listen(settings.host, settings.port, "--port")),
            stack.enter_context(listen(admin_host, settings.admin_port, "--admin-port", "--admin-host")),
        )
        if settings.grpc_port:
            listen(settings.host, settings.grpc_port, "--grpc-port").close()  # gRPC's own message says nothing
        observers: list[Observer] = []
        if access_log is not None:
            observers.append(AccessLog(access_log))
            stack.callback(observers[-1].close)
        if tracing:
            observers.append(Tracing())
            stack.callback(observers[-1].close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Process(assemble(settings, observers), extension).serve(ports, on_live))
    if any(thread.name == _LOADER for thread in threading.enumerate()):
        # A release that is still being loaded would be torn out of the hands of a library: end without ceremony.
        os._exit(0)


@dataclass(frozen=True, slots=True)
class _Ports:
    """Sockets that listen."""

    service: socket.socket
    admin: socket.socket


class _Process:
    """The life of a service."""

    def __init__(self, parts: Parts, extension: Extension | None) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._extension = extension
        self._key = parts.settings.admin_key or secrets.token_urlsafe(32)
        self._is_stopping = False
        self._told_to_stop = asyncio.Event()
        self._failures: dict[str, str] = {}
        self._rereading: asyncio.Task[None] | None = None

    async def serve(self, ports: _Ports, on_live: OnLive | None) -> None:
        """Serve until told to stop."""
        self._heed_signals()
        parts, drain_s = self._parts, self._settings.drain_s
        parts.scheduler.start()
        page_port = ports.service.getsockname()[1] if self._extension else None
        app = parts.app(self._extension, ports.admin.getsockname()[1])
        apps = (app, ports.service), (parts.admin(self._key, page_port), ports.admin)
        servers = [(HttpServer(closing(app, self._stops), drain_s), port) for app, port in apps]
        serving = [asyncio.create_task(server.serve([port])) for server, port in servers]
        stop_grpc = await self._start_grpc()
        others = running_services(self._settings.store)
        running = self._running(ports)
        with announced(running) as file:
            if on_live is not None:
                on_live(running, file)
            following = asyncio.create_task(self._follow_store(is_alone=not others))
            await self._told_to_stop.wait()
            stopping = asyncio.create_task(parts.service.stop(self._settings.grace_s + _CLOSING_S))
            await asyncio.sleep(self._settings.grace_s)
            for server, _ in servers:
                server.should_exit = True
            await asyncio.gather(*serving, stop_grpc(drain_s))
            drained = await stopping
            following.cancel()
        await self._unload()
        _log.info("stopped" if drained else f"stopped after {drain_s:g} s of waiting for requests to end")

    def _stops(self) -> bool:
        return self._is_stopping

    def _running(self, ports: _Ports) -> Running:
        return Running(
            pid=os.getpid(),
            store=str(self._settings.store.resolve()),
            host=self._settings.host,
            port=ports.service.getsockname()[1],
            admin_host=ports.admin.getsockname()[0],
            admin_port=ports.admin.getsockname()[1],
            admin_key=self._key,
            started=self._parts.started,
        )

    async def _start_grpc(self) -> Callable[[float], Awaitable[Any]]:
        """Start gRPC where it is asked for; return what stops it."""
        if self._settings.grpc_port is None:
            return _nothing_to_stop
        from octavo.serve.grpc.server import create_grpc_server

        parts = self._parts
        server = create_grpc_server(parts.service, parts.api_settings, listener=parts.listener)
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        server.add_insecure_port(f"{host}:{self._settings.grpc_port}")
        await server.start()
        stop: Callable[[float], Awaitable[Any]] = server.stop
        return stop

    # Signals.

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        loop.add_signal_handler(signal.SIGHUP, self._reread)

    def _told(self, number: int) -> None:
        """Stop, or where that was said before, end now."""
        if self._is_stopping:
            _log.warning("a second signal: it ends now")
            os._exit(128 + number)
        self._is_stopping = True
        _log.info(
            "stopping: not ready, serves on for %g s, then lets requests end for up to %g s; another signal ends it",
            self._settings.grace_s,
            self._settings.drain_s,
        )
        self._told_to_stop.set()

    def _reread(self) -> None:
        for observer in self._parts.observers:
            if isinstance(observer, AccessLog):
                observer.reopen()
        _log.info("SIGHUP: reads the store again, what failed before too")
        self._rereading = asyncio.create_task(self._refresh(retry=True))

    # The store.

    async def _follow_store(self, is_alone: bool) -> None:
        """Load the store, go on with trials that a restart cut short, and follow what changes."""
        await self._refresh()
        await _in_thread(settle_process)
        serving = self._parts.registry.models()
        if is_alone:
            await _in_thread(lambda: self._parts.rollout.resume(serving))
        if serving:
            _log.info("ready: %s", ", ".join(serving))
        elif self._failures:
            _log.error("not ready: no model serves")
        else:
            _log.error(
                "not ready: there are no releases in %s yet. What octavo compress --store publishes there will serve",
                self._settings.store,
            )
        while self._settings.watch_s:
            await asyncio.sleep(self._settings.watch_s)
            await self._refresh()

    async def _refresh(self, *, retry: bool = False) -> None:
        """Read the store; each failure is told once."""
        registry = self._parts.registry
        failures: dict[str, str] = {}
        told: set[str] = set()
        try:
            told = {change.model for change in await _in_thread(lambda: registry.refresh(retry=retry))}
        except OctavoError as error:
            failures[""] = str(error)
        if (extension := self._extension) is not None:
            try:
                await _in_thread(lambda: extension.refresh(retry=retry))
            except OctavoError as error:
                failures[_BESIDE] = str(error)
        failures |= registry.failures()
        for model, why in failures.items():
            if self._failures.get(model) != why and model not in told:
                _log.error("%s%s", f"{model}: " if model else "", why)
        self._failures = failures

    async def _unload(self) -> None:
        def unload() -> None:
            self._parts.rollout.close()
            self._parts.registry.close()

        try:
            async with asyncio.timeout(self._settings.drain_s):
                if self._extension is not None:
                    await self._extension.close()
                await _in_thread(unload)  # a release that is being loaded has the turn, and nothing stops it
        except TimeoutError:
            _log.warning("a release was still being loaded")


async def _in_thread(work: Callable[[], T]) -> T:
    """Do blocking work in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def target() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(done.set_result, work())
        except BaseException as error:
            settle = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if done.cancelled() else settle())

    threading.Thread(target=target, name=_LOADER, daemon=True).start()
    return await done


async def _nothing_to_stop(grace_s: float) -> None:
    """Stop nothing."""
