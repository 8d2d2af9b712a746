"""Pages as a parser reads them and as a real browser shows them."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium")


REQUIRED = "FEATURESTORE_REQUIRE_BROWSER"
"""Environment variable of a machine where tests without a browser shall fail rather than be skipped."""


NOT_UTF8 = os.fsdecode(b"caf\xe9")


HOSTILE = "<script>alert(1)</script>\"'&"


HARNESS = """<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:900px"></iframe>
<script>
onload = () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  const all = (what) => [...page.querySelectorAll(what)];
  document.title = [page.documentElement.scrollWidth, getComputedStyle(page.body).backgroundColor,
    all("img").every((image) => image.naturalWidth), all("svg").every((svg) => svg.getBoundingClientRect().width > 80),
    frame.contentWindow.performance.getEntriesByType("resource").length];
}}</script>"""


class Page(HTMLParser):
    """The tags of a page, its words, and its headings in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "wbr", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def marks_of(chart):
    """The parsed drawing of a chart that has its words and its table, and (class, number) of each series of marks."""
    page = Page(str(chart.svg))
    assert page.all("svg")[0]["role"] == "img" and page.all("svg")[0]["aria-label"]
    assert chart.rows and all(len(row) == len(chart.heading) for row in chart.rows)
    assert all(isinstance(cell, str) for row in chart.rows for cell in row)
    assert not re.search(r"nan|inf", str(chart.svg))
    marks = [p for p in page.all("path") if p["class"].startswith("mark")]
    return page, [(p["class"], len(re.findall("M", p["d"]))) for p in marks]


def sound(file):
    """The page in a file, and its words; checks what holds for every page."""
    text = file.read_text()
    page = Page(text)
    names = [name for name, _ in page.tags]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [a["href"] for a in page.all("a")]
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(names)
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert all(image["src"].startswith("data:image/jpeg;base64,") and image["alt"] for image in page.all("img"))
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)
    assert {"header", "nav", "main", "footer"} <= set(names) and names.count("h1") == 1
    assert page.all("html") == [{"lang": "en"}] and page.all("title")
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert file.stat().st_size < 5_000_000 and list(file.parent.glob(".page*")) == []
    return page, "".join(page.words)


def in_browsers(test):
    """Phone and desktop, light and dark."""
    absent = CHROMIUM is None and REQUIRED not in os.environ
    for mark in (
        pytest.mark.skipif(absent, reason="no chromium on PATH: apt-get install chromium"),
        pytest.mark.parametrize("width", [390, 1280]),
        pytest.mark.parametrize("dark", [False, True]),
    ):
        test = mark(test)
    return test


def look(file, width, dark):
    """Open a page in Chromium: it fits, every picture shows, nothing complains and nothing is asked of a network."""
    assert CHROMIUM, f"no chromium on PATH, and {REQUIRED} is set"
    tmp_path = file.parent
    harness = HARNESS.format(width=width, page=file.name)
    (tmp_path / "harness.html").write_text(harness)  # a window cannot be as narrow as a phone
    options = [
        "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--no-first-run", "--allow-file-access-from-files", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={max(width, 500)},900", f"--screenshot={tmp_path / 'page.png'}", "--dump-dom",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *options, f"file://{tmp_path}/harness.html"], capture_output=True, text=True, check=True, timeout=120
    )
    colour = "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    assert f"<title>{width},{colour},true,true,0</title>" in done.stdout
    assert "CONSOLE" not in done.stderr
    with Image.open(tmp_path / "page.png") as shot:
        assert len(shot.convert("RGB").getcolors(1 << 20)) > 100
