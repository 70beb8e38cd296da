"""Who answers a request, where two releases of a model are loaded: the seam between the service and a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from octavo.serve.loaded import LoadedRelease
from octavo.serve.service import Reply, Request


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Attributes:
        answer_with: the release that answers.
        shadow: another one that gets a copy, whose answer nobody sees; None for none.
    """

    answer_with: LoadedRelease
    shadow: LoadedRelease | None = None


class Router(Protocol):
    """Decides for each request. Called on the event loop: quick, and never raises."""

    def route(self, model: str, serving: LoadedRelease, trial: LoadedRelease) -> Route:
        """Return who answers. Asked only while a trial is loaded, and for requests that name no version."""

    def compared(
        self,
        model: str,
        request: Request,
        reply: Reply,
        trial: Reply | Exception,
        seconds_old: float,
        seconds_new: float,
    ) -> None:
        """Hear how a release on trial did beside the one that serves.

        Of a shadow: after every copy that was computed; those that were dropped for want of time are not told. Of a
        release that was to answer itself and failed: `reply` is the serving one's, which the client got in its place.

        Args:
            model: that was asked.
            request: that both got.
            reply: of the release that serves.
            trial: the other one's reply, or why there is none.
            seconds_old: that the serving release took to tokenize and compute, without waiting.
            seconds_new: that the other one took; until it failed, where it did.
        """
