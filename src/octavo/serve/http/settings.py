"""What the API asks of its clients and allows them, over HTTP and gRPC alike."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import InputError


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits and keys.

    Attributes:
        max_body_bytes: largest body of a request.
        max_inputs: most inputs of a request; a ranker's documents count one by one.
        api_keys: any of which a client must show; empty for none.
        timeout_s: deadline of requests that bring none; None for no deadline.
        body_timeout_s: how long a body may take to come.
    """

    max_body_bytes: int = 8 << 20
    max_inputs: int = 1024
    api_keys: tuple[str, ...] = ()
    timeout_s: float | None = None
    body_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises InputError."""
        for name in ("max_body_bytes", "max_inputs", "timeout_s", "body_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value} and must be above 0.")
        if not all(key.strip() for key in self.api_keys):
            raise InputError("An API key is blank. Give it characters, or leave it out.")
