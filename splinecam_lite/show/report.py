"""Reports: one HTML page that needs nothing else, no scripts, no network, not even the figures beside it."""

import base64
import html
import mimetypes
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

STYLE = """
body { font: 17px/1.55 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; margin-bottom: .3rem; }
h2 { margin-top: 2.6rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
nav { font-size: .9rem; } nav a { margin-right: 1rem; white-space: nowrap; }
figure { margin: 1.6rem 0; } figure img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { font-size: .92rem; color: #333; margin-top: .5rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #999; vertical-align: bottom; white-space: normal; }
dt { font-weight: 600; margin-top: .7rem; } dd { margin-left: 1.2rem; }
code { background: #f3f3f3; padding: 0 .2em; font-size: .92em; overflow-wrap: anywhere; }
"""


class Picture(NamedTuple):
    """A figure: an image file, what to see in it, and what it shows in words for those who do not see it."""

    file: Path
    caption: str
    alt: str


class Table(NamedTuple):
    """A table; the first column is aligned to the left, as names are, and the others to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


class Terms(NamedTuple):
    """Words and what they mean."""

    items: Sequence[tuple[str, str]]


class Points(NamedTuple):
    """A list of short statements."""

    items: Sequence[str]


class Section(NamedTuple):
    """A part of a report; strings are paragraphs, in which words between backticks are code."""

    title: str
    parts: Sequence[str | Picture | Table | Terms | Points]


def write_report(path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write a page with its images inside.

    Parameters
    ----------
    path : path
        The page, there when it is complete.
    title : str
    lead : str
        What it is about, in a sentence or two.
    sections : sequence of Section

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If an image is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sections = [Section("One & all", ["See `run.json`."])]
    ...     page = write_report(f"{folder}/a.html", "Title", "Lead", sections)
    ...     page.read_text().splitlines()[-4:-2]
    ['<h2 id="one-all">One &amp; all</h2>', '<p>See <code>run.json</code>.</p>']
    """
    path = Path(path)
    links = " ".join(f'<a href="#{_anchor(s.title)}">{html.escape(s.title)}</a>' for s in sections)
    body = "\n".join(_section(section) for section in sections)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>{_text(lead)}</p>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)
    return path


def _section(section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f'<h2 id="{_anchor(section.title)}">{html.escape(section.title)}</h2>\n{parts}'


def _part(part: str | Picture | Table | Terms | Points) -> str:
    match part:
        case str():
            return f"<p>{_text(part)}</p>"
        case Picture(file, caption, alt):
            image = f'<img src="{_embedded(file)}" alt="{html.escape(alt)}">'
            return f"<figure>{image}\n<figcaption>{_text(caption)}</figcaption></figure>"
        case Table(header, rows, caption):
            head = _row(header, "th")
            body = "\n".join(_row(row, "td") for row in rows)
            table = f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table>"
            foot = f"<figcaption>{_text(caption)}</figcaption>"
            return f'<figure><div class="table">{table}</div>\n{foot}</figure>'
        case Terms(items):
            return f"<dl>{''.join(f'<dt>{_text(a)}</dt><dd>{_text(b)}</dd>' for a, b in items)}</dl>"
        case Points(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
    raise TypeError(f"a {type(part).__name__} is no part of a report")


def _row(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _embedded(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
