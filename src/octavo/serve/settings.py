"""How the service is to run: one object in place of many arguments. Knows no default that depends on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InputError

_HIGHEST_PORT = 65_535
_ABOVE_ZERO = (
    *("workers", "max_batch_tokens", "max_queue_ms", "max_inputs", "max_tokens", "max_text_bytes", "max_body_bytes"),
)
_NOT_BELOW_ZERO = ("batch_wait_ms", "cache_entries", "grace_s", "drain_s", "watch_s")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `octavo serve` was asked for.

    Attributes:
        store: whose models are served.
        host: to listen on; loopback unless asked for another.
        port: of the service; 0 for any that is free.
        admin_port: of the admin API.
        grpc_port: of gRPC; None for no gRPC.
        api_keys: any of which a client must show; empty for none.
        admin_key: of the admin API; None for a new one at each start.
        workers: threads that compute; None for one on each core that this process may use.
        max_batch_tokens: most tokens in one call of an engine; one longer sequence goes alone.
        batch_wait_ms: how long a batch may wait for company, from its first item on.
        max_queue_ms: how long a request may wait before it is computed; it is refused where that is foreseen.
        max_inputs: most inputs of a request; a ranker's documents count one by one.
        max_tokens: most tokens of a request.
        max_text_bytes: longest text, in UTF-8; it is cut to the model's length, but has to be tokenized before.
        max_body_bytes: largest body of a request.
        cache_entries: inputs whose outputs are remembered; 0 for none.
        grace_s: how long a service that was told to stop still takes requests, so that routers notice.
        drain_s: how long requests may take to end before their release is unloaded, or the service stops.
        watch_s: how often the store is looked at; 0 for never.
        allow_uncertified: serve releases without a `pass`.
    """

    store: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_port: int = 8001
    grpc_port: int | None = None
    api_keys: tuple[str, ...] = ()
    admin_key: str | None = None
    workers: int | None = None
    max_batch_tokens: int = 1024
    batch_wait_ms: float = 0.0
    max_queue_ms: float = 250.0
    max_inputs: int = 1024
    max_tokens: int = 65_536
    max_text_bytes: int = 128 << 10
    max_body_bytes: int = 8 << 20
    cache_entries: int = 0
    grace_s: float = 5.0
    drain_s: float = 30.0
    watch_s: float = 1.0
    allow_uncertified: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises InputError."""
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:  # so written that NaN is refused
                raise InputError(f"{name} is {value} and must be above 0.")
        for name in _NOT_BELOW_ZERO:
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)} and must not be below 0.")
        for name in ("port", "admin_port", "grpc_port"):
            if not 0 <= (getattr(self, name) or 0) <= _HIGHEST_PORT:
                raise InputError(f"{name} is {getattr(self, name)}; ports are 0 to {_HIGHEST_PORT}.")
        if self.batch_wait_ms >= self.max_queue_ms:
            raise InputError(
                f"batch_wait_ms is {self.batch_wait_ms:g} and max_queue_ms {self.max_queue_ms:g}: every request "
                "would be dropped while its batch waits. Let batches wait for less."
            )
