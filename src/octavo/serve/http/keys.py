"""Keys that clients show: `Authorization: Bearer KEY`, compared in a time that tells nothing of them."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from octavo.serve.http.refusals import Unauthorized


def digests_of(keys: Sequence[str]) -> tuple[bytes, ...]:
    """Return what `check_key` compares: digests are of one length, whatever the keys are."""
    return tuple(sha256(key.encode()).digest() for key in keys)


def check_key(authorization: bytes, digests: Sequence[bytes]) -> None:
    """Refuse a header that shows none of the keys; where there are none, all may come.

    Raises:
        Unauthorized: it shows none of them.
    """
    if not digests:
        return
    scheme, _, key = authorization.partition(b" ")
    shown = sha256(key.strip()).digest()
    matches = [hmac.compare_digest(shown, digest) for digest in digests]  # all of them, whichever it is
    if not any(matches) or scheme.lower() != b"bearer":
        raise Unauthorized("This service wants a key. Send it as Authorization: Bearer KEY.")
