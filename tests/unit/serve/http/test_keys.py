import hmac

from octavo.serve.http.keys import check_key, digests_of
from octavo.serve.http.refusals import Unauthorized


def test_every_key_is_compared_whichever_is_shown(monkeypatch):
    """How long it takes must not tell which key is the nearest."""
    compared = []
    compare_digest = hmac.compare_digest

    def counted(first, second):
        compared.append(len(first) == len(second))
        return compare_digest(first, second)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    digests = digests_of(["one", "two", "a much longer key than the others"])
    for shown in (b"Bearer one", b"Bearer x"):
        compared.clear()
        try:
            check_key(shown, digests)
        except Unauthorized:
            assert shown == b"Bearer x"
        assert compared == [True] * 3
