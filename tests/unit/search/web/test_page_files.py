import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from octavo.store.publish import new_version
from octavo.store.release import open_release

FILES = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}


@pytest.mark.parametrize("path", FILES)
def test_files_are_served_and_known_again_by_their_etag(client: Any, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(FILES[path])
    assert response.headers["x-content-type-options"] == "nosniff"
    again = client.get(path, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_policy_allows_this_service_and_its_admin_api_alone(make_client: Callable[..., Any]) -> None:
    policy = make_client(admin_port=8001).get("/").headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "connect-src 'self' http://octavo:8001;" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("host", ["a b", "evil; script-src *", "x'y", ""])
def test_a_hostile_host_gets_nothing_into_the_policy(make_client: Callable[..., Any], host: str) -> None:
    policy = make_client(admin_port=8001).get("/", headers={"host": host}).headers["content-security-policy"]
    assert "connect-src 'self';" in policy


def test_no_file_names_another_host_or_runs_what_is_written_in_the_page() -> None:
    folder = resources.files("octavo.search.web").joinpath("page")
    for file in folder.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.", text.replace("location.protocol}//", "")), file.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|<style|\son[a-z]+=", text
        )


REPORT = b"<!doctype html><title>A report</title>"


@pytest.fixture
def reported(store: Path) -> str:
    """The version of a ranker that has a report."""
    release = open_release(store / "rank" / "2")
    with new_version(store, "rank") as draft:
        for name in release.manifest.files:
            draft.write(name, release.read(name))
        draft.write("report.html", REPORT)
        manifest = release.manifest
        made = draft.commit(task="rank", rung=manifest.rung, variants=manifest.variants, make_current=False)
    return made.name


def test_a_report_is_shown_as_it_was_released_and_may_do_nothing(
    make_client: Callable[..., Any], store: Path, reported: str
) -> None:
    response = make_client(store=store).get(f"/reports/rank/{reported}")
    assert (response.status_code, response.content) == (200, REPORT)
    assert "sandbox" in response.headers["content-security-policy"]


def test_an_altered_report_is_not_shown(make_client: Callable[..., Any], store: Path, reported: str) -> None:
    (store / "rank" / reported / "report.html").write_bytes(REPORT.replace(b"A", b"B"))
    response = make_client(store=store).get(f"/reports/rank/{reported}")
    assert response.status_code == 404
    assert "altered" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["rank/2", "rank/9", "nobody/1", "rank/current", "..%2Frank/1", "rank/..", "%00/1"])
def test_what_is_no_report_is_not_shown(client: Any, path: str) -> None:
    assert client.get(f"/reports/{path}").status_code == 404
