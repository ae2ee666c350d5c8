"""Finding a file on a Python package index, in the JSON form (PEP 691) or the HTML form (PEP 503)."""

from __future__ import annotations

import json
import posixpath
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from llama4sdk.errors import DownloadError
from llama4sdk.weights.download import get

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["file_url"]

ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.2, */*;q=0.1"


def file_url(index: str, project: str, filename: str) -> str:
    """The address of a project's file. ``project`` is normalised already (PEP 503).

    Raises DownloadError when the index cannot be reached, is none, or has no such file.
    """
    page = get(f"{index}/{project}/", accept=ACCEPT)
    base = str(page.url)
    links = _from_json(page.text) if "json" in page.headers.get("Content-Type", "") else _from_html(page.text)
    for link in links:
        url = urldefrag(urljoin(base, link)).url
        if unquote(posixpath.basename(urlsplit(url).path)) == filename:
            return url
    raise DownloadError(f"The package index has no {filename}.", hint="Check PIP_INDEX_URL, the index that is used.")


def _from_json(text: str) -> Iterator[str]:
    try:
        yield from [file["url"] for file in json.loads(text)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"The package index answered something else than a list of files: {error!r}.") from error


def _from_html(text: str) -> Iterator[str]:
    parser = _Links()
    parser.feed(text)
    yield from parser.found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what every ``<a href>`` points to."""
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.found.append(href)
