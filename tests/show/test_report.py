"""The HTML pages: structure, escaping, embedded images."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from splinecam_lite.show.report import Picture, Points, Section, Table, Terms, write_report

VOID = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Hold that every tag is closed, and collect the tags and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2), "red").save(path)
    return path


def test_every_kind_of_part(tmp_path: Path, image: Path) -> None:
    sections = [
        Section("First", ["A paragraph.", Picture(image, "What to see.", "a red image")]),
        Section(
            "Second",
            [
                Table(["name", "value"], [["one", "1"], ["two", "2"]], "Two rows."),
                Terms([("word", "meaning")]),
                Points(["point"]),
            ],
        ),
    ]
    page = write_report(tmp_path / "page.html", "Title", "Lead.", sections).read_text()
    read = Checker(page)
    for tag, n in {
        "h1": 1,
        "h2": 2,
        "figure": 2,
        "figcaption": 2,
        "tr": 3,
        "td": 4,
        "dt": 1,
        "dd": 1,
        "li": 1,
    }.items():
        assert read.tags.count(tag) == n, tag
    for text in ("Title", "Lead.", "A paragraph.", "What to see.", "Two rows.", "meaning", "point"):
        assert text in read.text
    picture = read.attributes[read.tags.index("img")]
    assert picture["alt"] == "a red image"
    kind, _, data = str(picture["src"]).partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == image.read_bytes()
    targets = [a["href"] for a, tag in zip(read.attributes, read.tags, strict=True) if tag == "a"]
    assert targets == ["#first", "#second"]


def test_text_cannot_break_the_page(tmp_path: Path, image: Path) -> None:
    bad = '<b>&"</b> `<i>`'
    parts = [bad, Picture(image, bad, bad), Table([bad], [[bad]], bad), Terms([(bad, bad)]), Points([bad])]
    read = Checker(write_report(tmp_path / "page.html", bad, bad, [Section(bad, parts)]).read_text())
    assert "b" not in read.tags
    assert "i" not in read.tags
    assert read.text.count('<b>&"</b> <i>') == 9  # lead, paragraph, caption, table (3), term (2), point


def test_missing_image_leaves_no_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "page.html", "", "", [Section("", [Picture(tmp_path / "b.png", "", "")])])
    assert list(tmp_path.iterdir()) == []
