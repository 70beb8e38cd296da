"""Pictures of the page for the README and the documentation: python scripts/screenshots.py demo/store demo/index

Serves the store on free ports, searches, compares, swaps a release under live traffic, and writes
docs/images/page-*.png with the Chromium that is installed. The store is copied first: a swap moves its `current`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import ViewportSize, sync_playwright

KEY = "a-key-for-pictures"
QUERY = "undo the last commit but keep the changes"
DESK: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}
# Colours, size, and how many of the views, in the order of `pictures`.
SERIES: dict[str, tuple[Literal["light", "dark"], ViewportSize, int]] = {
    "": ("light", DESK, 4),
    "-dark": ("dark", DESK, 2),
    "-phone": ("light", PHONE, 1),
}
LIVE_MS = 20_000


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--query", default=QUERY)
    options = parser.parse_args()
    program = shutil.which("chromium") or sys.exit("Chromium is not installed: apt install chromium")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = Path(shutil.copytree(options.store, Path(folder) / "store", symlinks=True))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with served(store, options.index) as address:
            for name, (scheme, viewport, views) in SERIES.items():
                page = browser.new_context(color_scheme=scheme, viewport=viewport, device_scale_factor=1.5).new_page()
                for view, image in itertools.islice(pictures(page, address, options.query), views):
                    file = options.out / f"page-{view}{name}.png"
                    file.write_bytes(image)
                    print(file)
                page.context.close()
        browser.close()


@contextmanager
def served(store: Path, index: Path) -> Iterator[str]:
    """Run the service while the block runs; yields its address once it is ready."""
    command = [sys.executable, "-m", "octavo", "serve", str(store), "--index", str(index), "--json", "--rerank", "0"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--admin-port", "0", "--grace-s", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OCTAVO_ADMIN_KEY": KEY},
    )
    assert process.stdout is not None
    try:
        told = json.loads("".join(itertools.takewhile(lambda line: line != "}\n", process.stdout)) + "}")
        address = f"http://127.0.0.1:{told['port']}/"
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{address}ready"):
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate()


def pictures(page: Any, address: str, query: str) -> Iterator[tuple[str, bytes]]:
    """Yield a picture of each view."""
    page.goto(address)
    for typed in (query.partition(" ")[0], query):  # the first search of all is slower than those after it
        page.locator("#query").fill(typed)
        page.wait_for_timeout(1500)
    yield "search", page.screenshot()
    page.locator("#tab-compare").click()
    page.locator("#compare-times-note", has_text="median of 4").wait_for(timeout=120_000)
    yield "compare", page.screenshot(full_page=True)
    page.locator("#tab-engines").click()
    show_swap(page)
    yield "engines", page.screenshot(full_page=True)
    page.locator("#live-toggle").click()
    page.locator("#tab-cost").click()
    page.locator("#cost-table tbody tr").first.wait_for()
    yield "cost", page.screenshot()


def show_swap(page: Any) -> None:
    """Send live traffic, and let another version of a model serve meanwhile."""
    page.locator("#live-toggle").click()
    page.locator("#admin-key-value").fill(KEY)
    page.locator("#admin-key button").click()
    page.wait_for_timeout(LIVE_MS)
    promote = page.locator(".model").last.locator("button", has_text="Promote").first
    promote.click()
    page.locator("button", has_text="sure?").click()
    page.locator("#engines-state", has_text="→").wait_for(timeout=120_000)
    page.wait_for_timeout(LIVE_MS)


if __name__ == "__main__":
    main()
