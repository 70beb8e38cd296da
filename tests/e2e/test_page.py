"""The page in a real browser, over a real server: what a person sees, and what hostile texts and failures do to it."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from octavo.search.build import Change, build_index
from octavo.search.direct import DirectService
from octavo.search.embedder import NoEmbedder, ReleaseEmbedder, documents_release
from octavo.search.index import open_index
from octavo.search.web.routes import search_routes
from octavo.search.web.site import Site
from octavo.serve.http.app import create_app
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import Unavailable
from octavo.serve.service import Reply, Request
from octavo.store.model import load
from tests.unit.conftest import make_certificate
from tests.unit.search.conftest import publish_stack, tiny_stack

__all__ = ["make_certificate", "publish_stack", "tiny_stack"]  # fixtures that are used here

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright: pip install it")

KEY = "the-admin-key"
HOSTILE = "<script>window.bad=1</script><img src=x onerror=window.bad=2>"
RTL = "תשמיע מוזיקה בבית"
DOCUMENTS = {
    "music": ("Music", "Play some music in the house. " + "Turn it on and off again. " * 30 + "The very end."),
    "table": ("Table", "Book a table for two at the place."),
    "weather": ("Weather", "What is the weather like for now."),
    "zh": ("厨房的灯", "打开厨房的灯，播放音乐。"),
    "hostile": (HOSTILE, f"Music of {HOSTILE} and of \u202e\u0007 others."),
    "rtl": (RTL, f"{RTL} music"),
}
TYPED = ("play", "music", "table", "turn it")
# Of all text that is shown: the ratio of its contrast to its background, and what it has to be (WCAG AA).
CONTRASTS = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (!node.textContent.trim() || !e.checkVisibility() || e.closest(".unseen, noscript")) continue;
    const ink = parse(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) poor.push([node.textContent, (a + 0.05) / (b + 0.05)]);
  }
  return poor;
}"""
UNNAMED = """() => [...document.querySelectorAll("button, input, select, a, [role=img], [role=region], section")]
  .filter((e) => e.checkVisibility())
  .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim()
    || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim()))
  .map((e) => e.outerHTML)"""
BROKEN_REFERENCES = """() => {
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  const named = [...document.querySelectorAll("[aria-controls], [aria-labelledby], [aria-describedby], label[for]")]
    .flatMap((e) => ["aria-controls", "aria-labelledby", "aria-describedby", "for"].map((n) => e.getAttribute(n)));
  return [...ids.filter((id, i) => ids.indexOf(id) !== i), ...named.filter((id) => id && !ids.includes(id))];
}"""
TOO_WIDE = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"


@dataclass
class Server:
    """A service with a page."""

    address: str
    process: subprocess.Popen[str] | None = None


@dataclass
class Kept:
    """What the tests share: the first one makes it."""

    folder: Path
    stack: ExitStack
    server: Server | None = None


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with ExitStack() as stack:
        yield Kept(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture
def store(kept: Kept, publish_stack: Callable[..., Path]) -> Path:
    """A store of four models with an index beside it: version 1 of each is FP32, version 2 INT8 and current."""
    store = kept.folder / "store"
    if not store.is_dir():
        publish_stack(store=store)
        corpus = kept.folder / "corpus.jsonl"
        rows = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        with load(documents_release(store / "embed", by_reference=True), threads=1) as model:
            build_index(kept.folder / "index", Change(corpus), ReleaseEmbedder(model), store=store)
    return store


@contextmanager
def served(store: Path, index: Path, environment: dict[str, str]) -> Iterator[Server]:
    """Run `octavo serve` until the block ends."""
    program = str(Path(sys.executable).with_name("octavo"))
    ports = ("--port", "0", "--admin-port", "0", "--grace-s", "0", "--threads", "1", "--max-queue-ms", "5000")
    process = subprocess.Popen(
        [program, "serve", str(store), "--index", str(index), *ports, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "OCTAVO_ADMIN_KEY": KEY},
    )
    try:
        assert process.stdout is not None
        told = json.loads("".join(itertools.takewhile(lambda line: line != "}\n", process.stdout)) + "}")
        server = Server(f"http://127.0.0.1:{told['port']}", process)
        _await_ready(server)
        yield server
    finally:
        process.kill()
        process.communicate()


def _await_ready(server: Server) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{server.address}/ready"):  # a refusal is an OSError too
            return
        assert time.monotonic() < deadline, "it never was ready"
        time.sleep(0.05)


@pytest.fixture
def server(kept: Kept, store: Path, environment: dict[str, str]) -> Server:
    """A server that no test changes."""
    if kept.server is None:
        kept.server = kept.stack.enter_context(served(store, kept.folder / "index", environment))
    return kept.server


@contextmanager
def in_this_process(site: Site) -> Iterator[str]:
    """Serve a site in a thread, so that its service can be made to fail."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings = ApiSettings()
    app = create_app(site.service, settings, extra_routes=search_routes(site, settings))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("The page is tested in Chromium, which is not installed here.")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages, and see at the end that none of them had an error or broke its own policy."""
    contexts, faults = [], []

    def open_page(address: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Policy" in message.text else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def type_query(page: Any, query: str) -> None:
    """Type a query, and wait for its results."""
    page.locator("#query").fill(query)
    await_answer(page)


def await_answer(page: Any) -> None:
    """Wait for the results of what stands in the box now, not those of what stood there on the way to it."""
    answers = "document.querySelector('#results').dataset.answers === document.querySelector('#query').value.trim()"
    deadline = time.monotonic() + 60
    while not page.evaluate(answers):  # the page's policy forbids wait_for_function, which evaluates text
        assert time.monotonic() < deadline, "the answer never came"
        page.wait_for_timeout(20)


def titles(page: Any, of: str = "#results .title") -> list[str]:
    found: list[str] = page.locator(of).all_inner_texts()
    return found


def test_results_come_as_one_types_with_what_was_understood_and_how_long_it_took(server: Server, new_page: Any) -> None:
    page = new_page(server.address)
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/v1/search") else None)
    page.locator("#query").press_sequentially("play some music", delay=5)
    await_answer(page)
    assert asked[-1].post_data_json["query"] == "play some music"
    assert len(asked) < len("play some music")  # not one for each key
    assert "Music" in titles(page)
    assert {mark.lower() for mark in page.locator("mark").all_inner_texts()} >= {"play", "music"}
    assert page.locator("#intents li").first.inner_text().startswith("label")
    assert page.locator("#timeline li").count() == 8  # seven stages and their sum
    assert page.locator("#timeline small").last.inner_text().startswith("rank 2 · openvino")
    assert page.evaluate("location.hash") == "#search?q=play%20some%20music"


def test_the_keyboard_reaches_everything(server: Server, new_page: Any) -> None:
    page = new_page(f"{server.address}/#search?q=music")
    page.locator("#results li").first.wait_for()
    page.locator("#tab-search").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("ArrowDown")
    place = titles(page).index("Music")
    for _ in range(place):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#results .whole", has_text="The very end.").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#results .whole").count() == 0
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("Escape")
    page.locator("#examples").wait_for()
    page.locator("#tab-search").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#compare").is_visible()
    assert page.evaluate("document.activeElement.id") == "tab-compare"


def test_two_releases_are_compared_side_by_side(server: Server, new_page: Any) -> None:
    page = new_page(f"{server.address}/#compare?q=play%20music%20now")
    page.locator("#compare-times-note", has_text="median of 4").wait_for()
    assert titles(page, "#pair h2") == ["rank 1 · fp32", "rank 2 · int8"]
    left, right = titles(page, "#list-a .name"), titles(page, "#list-b .name")
    assert sorted(left) == sorted(right) == sorted(title for title, _ in DOCUMENTS.values())
    assert page.locator("#moves path").count() == len(left)
    assert page.locator("#moves path.moved").count() == sum(a != b for a, b in zip(left, right, strict=True))
    assert page.locator("#compare-figures dd").first.inner_text() == "1.00"  # the same documents, however ordered
    page.locator("#list-a .judge").first.click()
    page.locator("#compare-figures dd", has_text="1.00 |").wait_for()  # the left one's first document is relevant
    page.locator("#compare-stage").select_option("embed")
    page.locator("#pair h2", has_text="embed 1 · fp32").wait_for()


def test_measures_of_two_lists_are_right(server: Server, new_page: Any) -> None:
    page = new_page(server.address)
    call = """async () => { const m = await import("/page.js"); return [
      m.jaccard(["a", "b"], ["b", "c"]), m.jaccard([], []),
      m.rankBiasedOverlap(["a", "b", "c"], ["a", "b", "c"]), m.rankBiasedOverlap(["a"], ["b"]),
      m.rankBiasedOverlap(["a", "b"], ["b", "a"], 0.5),
      m.ndcg(["a", "b"], new Set(["b"])), m.ndcg(["a"], new Set()),
      m.spanned("🎵 音乐", [{ start: 2, end: 4 }], (part) => `<${part}>`).join(""),
      [7, 10, 11, 499].map(m.niceAbove),
    ]; }"""
    assert page.evaluate(call) == [
        pytest.approx(1 / 3),
        1,
        pytest.approx(1.0),
        0,
        pytest.approx(0.5),  # by hand: 1 · 0.5² + (0.5 / 0.5) · (0 · 0.5 + 1 · 0.5²)
        pytest.approx(0.6309, abs=1e-4),
        None,
        "🎵 <音乐>",
        [10, 10, 20, 500],
    ]


def test_a_swap_in_the_middle_of_typing_loses_no_answer(
    kept: Kept, store: Path, environment: dict[str, str], tmp_path: Path, new_page: Any
) -> None:
    copied = Path(shutil.copytree(store, tmp_path / "store", symlinks=True))
    with served(copied, kept.folder / "index", environment) as server:
        page = new_page(f"{server.address}/#engines")
        page.locator(".model").first.wait_for()
        page.locator("#live-toggle").click()
        page.locator("#admin-key-value").fill("wrong")
        page.locator("#admin-key button").click()
        page.locator("#engines-state", has_text="not the one").wait_for()
        page.locator("#admin-key-value").fill(KEY)
        page.locator("#admin-key button").click()
        page.locator(".traffic path").first.wait_for(state="attached")
        ranker = page.locator(".model", has=page.locator("h3", has_text="rank"))
        ranker.locator("button", has_text="Promote").click()
        ranker.locator("button", has_text="sure?").click()
        page.locator("#tab-search").click()
        answers: list[Any] = []
        page.on("response", lambda response: answers.append(response) if response.url.endswith("/search") else None)
        deadline = time.monotonic() + 60
        read: list[Any] = []
        while not any(ranked_by(one) == "1" for one in read):
            assert time.monotonic() < deadline, "the swap never came"
            for query in TYPED:
                type_query(page, query)
            read += [content for answer in answers if (content := content_of(answer)) is not None]
            answers.clear()
        read = [one for one in read if one["query"] in TYPED]  # and not what the page goes on sending
        assert {ranked_by(one) for one in read} <= {"1", "2"}
        assert [one["problems"] for one in read if one["degraded"]] == []
        page.locator("#tab-engines").click()
        page.locator("#engines-state", has_text="rank: 2 → 1").wait_for()
        page.locator(".swap-name", has_text="rank 2 → 1").first.wait_for(state="attached")
        # Whether they are degraded says nothing: the tiny ranker cannot read queries as long as the examples.
        page.locator("#live-state", has_text=" answered, 0 lost;").wait_for()
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
        page.locator("#lock").click()
        assert page.evaluate("sessionStorage.length") == 0
        assert page.locator(".model button").count() == 0


def content_of(answer: Any) -> Any:
    """Return the content of an answer; None for one that the page gave up."""
    try:
        return answer.json() if answer.status == 200 else pytest.fail(answer.text())
    except playwright.Error:
        return None


def ranked_by(content: Any) -> str:
    """Return the version of the ranker that had part in an answer."""
    (stage,) = [stage for stage in content["stages"] if stage["name"] == "rank"]
    return str(stage["version"])


class Failing:
    """A service whose ranker breaks."""

    def __init__(self, service: DirectService) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    async def ask(self, request: Request) -> Reply:
        if request.model == "rank":
            raise Unavailable("The engine broke.")
        return await self._service.ask(request)


def test_an_engine_that_fails_costs_its_stage_and_is_named(kept: Kept, store: Path, new_page: Any) -> None:
    with DirectService.from_store(store, threads=1) as service:
        site = Site(open_index(kept.folder / "index"), Failing(service), store)
        with in_this_process(site) as address:
            page = new_page(f"{address}/#search?q=music")
            page.locator("#state", has_text="degraded: rank: The engine broke.").wait_for()
            assert "Music" in titles(page)
            assert page.locator("#timeline .problem").inner_text() == "The engine broke."


def test_a_ranker_that_is_left_out_is_told(kept: Kept, store: Path, new_page: Any) -> None:
    with DirectService.from_store(store, threads=1) as service:
        site = Site(open_index(kept.folder / "index"), service, store, rank_weight=0.0)
        with in_this_process(site) as address:
            page = new_page(f"{address}/#search?q=music")
            page.locator("#timeline small", has_text="left out here").wait_for()
            assert page.locator("#timeline li").count() == 8  # six stages, the one that is left out, and their sum


def test_an_empty_index_says_so(kept: Kept, store: Path, tmp_path: Path, new_page: Any) -> None:
    index = Path(shutil.copytree(kept.folder / "index", tmp_path / "index", symlinks=True))
    (tmp_path / "ids.txt").write_text("\n".join(DOCUMENTS), "utf-8")
    made_by = open_index(index).manifest.vectors_by
    build_index(index, Change(None, delete=tmp_path / "ids.txt", update=True), NoEmbedder(made_by))
    with (
        DirectService.from_store(store, threads=1) as service,
        in_this_process(Site(open_index(index), service, store)) as address,
    ):
        page = new_page(address)
        page.locator("#state", has_text="The index is empty").wait_for()
        page.locator("#query").fill("music")
        page.locator("#state", has_text="The index is empty in").wait_for()
        assert page.locator("#examples").is_hidden()
        page.locator("#tab-compare").click()
        page.locator("#compare-figures").wait_for()


HOSTILE_QUERIES = {
    "markup": HOSTILE,
    "right-to-left": RTL,
    "chinese": "音乐 厨房",
    "10,000 characters": "music " * 1666,
    "controls": "\u202emusic\u0000\u200b",
    "syntax": '"(music) AND -NOT:*',
    "percent": "%E0%A4%A",
    "astral": "🎵" * 50,
}


@pytest.mark.parametrize("query", HOSTILE_QUERIES.values(), ids=HOSTILE_QUERIES)
def test_hostile_text_is_text(server: Server, new_page: Any, query: str) -> None:
    page = new_page(server.address)
    type_query(page, query)
    assert page.evaluate("window.bad") is None
    assert page.locator("#search script, #search img").count() == 0
    assert not page.evaluate(TOO_WIDE)
    if "music" in query.lower():
        assert HOSTILE in titles(page)  # a document's markup is shown as it is
        assert RTL in titles(page)


def test_chinese_is_found_and_marked(server: Server, new_page: Any) -> None:
    page = new_page(f"{server.address}/#search?q=%E9%9F%B3%E4%B9%90")
    page.locator("mark", has_text="音乐").wait_for()
    assert "厨房的灯" in titles(page)


def test_a_server_that_is_gone_is_told_and_found_again(
    kept: Kept, store: Path, environment: dict[str, str], new_page: Any
) -> None:
    with served(store, kept.folder / "index", environment) as server:
        page = new_page(f"{server.address}/#search?q=music")
        page.locator("#results li").first.wait_for()
        assert server.process is not None
        os.kill(server.process.pid, 9)
        page.locator("#query").fill("play music")
        page.locator("#trouble", has_text="does not answer").wait_for()
        assert page.locator("#results li").count()  # what was found stays to be read
    port = int(server.address.rpartition(":")[2])
    with DirectService.from_store(store, threads=1) as service, at_port(port, kept, service, store):
        page.locator("#trouble").wait_for(state="hidden")
        page.locator("#state", has_text="results in").wait_for()


@contextmanager
def at_port(port: int, kept: Kept, service: DirectService, store: Path) -> Iterator[None]:
    """Serve at a certain port, as a server that was started again would."""
    settings = ApiSettings()
    site = Site(open_index(kept.folder / "index"), service, store)
    app = create_app(service, settings, extra_routes=search_routes(site, settings))
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_every_view_is_accessible(server: Server, new_page: Any, scheme: str, width: int) -> None:
    size = {"width": width, "height": 800}
    page = new_page(f"{server.address}/#search?q=play%20music", color_scheme=scheme, viewport=size)
    shown = {"search": "#timeline li", "compare": "#compare-bars li", "engines": ".model", "cost": "#cost-figures dd"}
    for view, loaded in shown.items():
        page.locator(f"#tab-{view}").click()
        page.locator(loaded).first.wait_for()
        assert page.evaluate(CONTRASTS) == []
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(BROKEN_REFERENCES) == []
        assert not page.evaluate(TOO_WIDE)
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3')].filter((e) => e.checkVisibility()).map((e) => +e.tagName[1])"
        )
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_cost_follows_the_numbers(server: Server, new_page: Any) -> None:
    page = new_page(f"{server.address}/#cost")
    page.locator("#cost-table tbody tr").first.wait_for()
    cores = page.locator("#cost-figures dd").nth(1).inner_text()
    # A fixture's engine takes 1 ms of 2 cores, PyTorch 9 ms: 3 models once, the ranker 20 times, half of the time.
    assert cores == "958 → 106"
    page.locator("#queries").fill("1000000")
    page.locator("#cost-figures dd", has_text="9.6 → 1.1").wait_for()
    page.locator("#baseline").select_option("openvino_fp32")
    page.locator("#cost-figures dd", has_text="67 %").wait_for()
    page.locator("#busy").fill("0")
    page.locator("#cost-state", has_text="mean no traffic").wait_for()
