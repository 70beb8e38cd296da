from html import unescape
from html.parser import HTMLParser

from octavo.serve.http.app import all_operations
from octavo.serve.http.errors import Dialect


class Tags(HTMLParser):
    """Reads the tags of a page and checks that they close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.found = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_says_all_that_can_be_asked(client):
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for operation in all_operations():
        assert f"<code>{operation.method} {operation.path}</code>" in page.text
    assert all(f"<h2>{dialect}</h2>" in page.text for dialect in Dialect)
    assert "text or list of (text or {text, text_pair}) or {text, text_pair}" in page.text
    assert """-d '{"input": "undo the last commit"}'""" in unescape(page.text)


def test_the_page_needs_nobody_else(client):
    page = client.get("/docs")
    tags = Tags()
    tags.feed(page.text)
    assert tags.open == []
    assert tags.links == ["/openapi.json"]
    assert not tags.found & {"script", "link", "img", "iframe"}
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
