import logging

import pytest

from octavo.errors import InputError
from octavo.serve.http.app import all_operations
from octavo.serve.refusals import DeadlineExceeded, Overloaded, Unavailable

TEXT = {"input": "turn it off"}


def test_another_method_is_refused_with_the_right_one(client):
    answer = client.get("/v1/classify")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = client.post("/v1/models")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert client.request("HEAD", "/v1/models").status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "one", "Basic one", "Bearer one two"])
def test_without_one_of_the_keys_nothing_is_answered(make_client, header, service):
    client = make_client(api_keys=("one", "schlüssel"))
    answer = client.post("/v1/classify", TEXT, headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["reason"] == "unauthorized"
    assert not service.asked


def test_each_of_the_keys_will_do(make_client):
    client = make_client(api_keys=("one", "schlüssel"))
    for shown in ("Bearer one", "bearer  one", "Bearer schlüssel".encode()):
        assert client.post("/v1/classify", TEXT, headers={"Authorization": shown}).status_code == 200


def test_probes_and_documentation_need_no_key_and_all_else_does(make_client):
    client = make_client(api_keys=("one",))
    for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
        assert client.get(path).status_code == 200
    for operation in all_operations():
        if not operation.is_open:
            path = operation.path.replace("{model}", "intent").replace("{version}", "3")
            assert client.request(operation.method, path).status_code == 401


@pytest.mark.parametrize("media", ["application/json", "application/json; charset=utf-8", "text/json", None])
def test_json_is_read(client, media):
    headers = {} if media is None else {"Content-Type": media}
    answer = client.request("POST", "/v1/classify", content=b'{"input": "turn it off"}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_other_media_are_refused(client, headers):
    answer = client.request("POST", "/v1/classify", content=b'{"input": "turn it off"}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["reason"] == "unsupported_media"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "is empty"),
        (b"{", "no JSON"),
        (b'{"input": "a"} x', "no JSON"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b'{"input": "\xff"}', "not UTF-8"),
        (b'{"input": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"input": "a\x00"}', "no JSON"),
        (b'{"input": "\\ud83d"}', "no JSON"),
        (b'{"input": "\\udc00 a"}', "no JSON"),
        (b'{"input": NaN}', "no JSON"),
        (b"[]", "another form"),
        (b"null", "another form"),
    ],
)
def test_what_is_no_json_is_refused(client, body, part):
    answer = client.request("POST", "/v1/classify", content=body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]["message"]


def test_json_that_is_nested_too_deeply_is_refused(client):
    body = b'{"input": "a", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = client.request("POST", "/v1/embeddings", content=body)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["", " ", "\x00", "\u202e", "😀", "\ufffe", "a" * 10_000])
def test_any_text_that_json_can_hold_is_answered(client, text):
    for path in ("/v1/classify", "/v1/tag", "/v1/embed"):
        assert client.post(path, {"input": text}).status_code == 200


def test_the_deadline_goes_to_the_service(client, make_client, service):
    client.post("/v1/classify", TEXT)
    client.post("/v1/classify", TEXT, headers={"X-Request-Timeout-Ms": "60000"})
    make_client(timeout_s=90.0).post("/v1/classify", TEXT)
    without, given, default = (request.deadline_s for request in service.asked)
    assert without is None
    assert 29 < default - given < 31


@pytest.mark.parametrize("timeout", ["0", "-1", "1.5", "soon", "", "9999999999", "²"])
def test_a_deadline_that_is_none_is_refused(client, timeout):
    answer = client.post("/v1/classify", TEXT, headers={b"X-Request-Timeout-Ms": timeout.encode()})
    assert answer.status_code == 400
    assert "X-Request-Timeout-Ms" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(Overloaded("full", 0.25), 429), (Unavailable("stopping"), 503), (DeadlineExceeded("late"), 504)],
)
def test_the_service_s_refusals_are_passed_on(client, service, listener, error, status):
    service.error = error
    answer = client.post("/v1/classify", TEXT)
    assert answer.status_code == status
    assert answer.json() == {"error": {"reason": error.reason, "message": str(error)}}
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)
    assert answer.headers.get("x-retry-after-ms") == ("250" if status == 429 else None)
    assert listener.reasons == []  # the service has told of it


def test_fault_found_with_an_item_is_the_client_s(client, service):
    service.error = InputError("the query is blank")
    answer = client.post("/v1/classify", TEXT)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "the query is blank")


def test_a_failure_is_logged_and_not_shown(client, service, caplog):
    service.error = KeyError("a secret")
    with caplog.at_level(logging.ERROR):
        answer = client.post("/v1/classify", TEXT)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


def test_the_listener_hears_of_what_the_service_does_not(make_client, listener):
    client = make_client(max_inputs=1)
    client.get("/v1/classify")
    client.post("/v1/classify", {"input": 1})
    client.post("/v1/classify", {"input": ["a", "b"]})
    client.post("/v1/classify", {"input": "a", "model": "none"})
    assert listener.reasons == [
        ("", "method_not_allowed"),
        ("", "bad_request"),
        ("", "too_large"),
        ("", "unknown_model"),
    ]
