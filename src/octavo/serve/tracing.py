"""Spans of the service's requests for OpenTelemetry. The only file that imports it, and only when it is asked for.

Where spans go is said by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.errors import MissingExtraError
from octavo.serve.service import Listener, Reply

_current: ContextVar[Any] = ContextVar("octavo_span", default=None)


class Tracing(Listener):
    """Makes a span of each request, with one for each stage in it; wraps an ASGI app to do so."""

    def __init__(self, exporter: Any = None) -> None:
        """Send spans with an exporter of OpenTelemetry's; None for the one that sends them where the environment says.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ModuleNotFoundError:
            raise MissingExtraError("opentelemetry", "otel") from None
        # OTEL_SERVICE_NAME, where it is set, goes before this name.
        self._provider = TracerProvider(resource=Resource.create({"service.name": "octavo"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("octavo")
        self._trace = trace
        self._propagate = propagate

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with a span for every HTTP request, under the one that the client names (`traceparent`)."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            span = self._tracer.start_span(
                # The path in full would be a name for each model; those are attributes.
                f"{scope['method']} {_route(scope['path'])}",
                context=self._propagate.extract(headers),
                kind=self._trace.SpanKind.SERVER,
                attributes={"http.request.method": scope["method"], "url.path": scope["path"]},
            )
            token = _current.set(span)

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                _current.reset(token)
                span.end()

        return traced

    def answered(self, reply: Reply, seconds: float) -> None:
        """Put the stages into the request's span: they ended now, one after the other."""
        parent = _current.get()
        if parent is None:
            return
        parent.set_attribute("octavo.model", reply.model)
        parent.set_attribute("octavo.version", reply.version)
        parent.set_attribute("octavo.inputs", len(reply.outputs))
        parent.set_attribute("octavo.tokens", reply.tokens)
        context = self._trace.set_span_in_context(parent)
        timing = reply.timing
        stages = (("tokenize", timing.tokenize_ms), ("queue", timing.queue_ms), ("compute", timing.compute_ms))
        start_ns = time.time_ns() - round(1e6 * sum(ms for _, ms in stages))
        for name, ms in stages:
            end_ns = start_ns + round(1e6 * ms)
            self._tracer.start_span(name, context=context, start_time=start_ns).end(end_time=end_ns)
            start_ns = end_ns

    def refused(self, model: str, reason: str) -> None:
        """Say in the request's span why there is no answer."""
        if (span := _current.get()) is not None:
            span.set_attribute("octavo.model", model)
            span.set_attribute("octavo.refused", reason)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _route(path: str) -> str:
    """Return a path with the names of models and versions taken out."""
    parts = path.split("/")
    for before in ("models", "versions"):
        if before in parts[:-1]:
            parts[parts.index(before) + 1] = f"{{{before[:-1]}}}"
    return "/".join(parts[:7])
