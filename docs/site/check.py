"""Checks a built site: `python -m docs.site.check FOLDER`. The exit status is 1 when something is wrong.

Every link inside the site must have its target, fragment included; nothing may be loaded from another host; every error
code must have its anchor on the page that the answers link to.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urldefrag, urlsplit

from headgate.core.wire.errors import CODES
from headgate.runtime.http.problem import DOCUMENTATION, SITE

LOADS: Final = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
LOADED_LINKS: Final = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
IN_CSS: Final = re.compile(r"(?:@import\s+|url\()\s*['\"]?((?:https?:)?//[^'\")\s]+)")


class Page(HTMLParser):
    """The targets, links and loaded files of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what one element names."""
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        loads_link = tag != "link" or LOADED_LINKS & set(values.get("rel", "").split())
        self.loads += [values[name] for kind, name in LOADS if kind == tag and name in values and loads_link]


def faults(folder: Path) -> Iterator[str]:
    """Yields one line a fault of the site in `folder`."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(folder)
        yield from (f"{where}: loads {each}" for each in page.loads if _is_foreign(each))
        yield from (f"{where}: no target for {each}" for each in page.links if not _is_there(each, path, pages))
    for path in sorted(folder.rglob("*.css")):
        yield from (f"{path.relative_to(folder)}: loads {each}" for each in IN_CSS.findall(path.read_text("utf-8")))
    errors = folder / DOCUMENTATION.removeprefix(SITE).removesuffix("#")
    there = pages[errors].ids if errors in pages else set()
    yield from (f"{errors.relative_to(folder)}: no anchor {code}" for code in CODES if code not in there)


def _is_foreign(url: str) -> bool:
    return urlsplit(url).scheme not in ("", "data") or url.startswith("//")


def _is_there(url: str, path: Path, pages: dict[Path, Page]) -> bool:
    if _is_foreign(url):
        return True  # a link that a reader may follow; nothing is loaded
    bare, fragment = urldefrag(url)
    target = (path.parent / unquote(urlsplit(bare).path)).resolve() if bare else path.resolve()
    found = {each.resolve(): page for each, page in pages.items()}.get(target)
    if found is None:
        return target.is_file() and not fragment
    return not fragment or unquote(fragment) in found.ids


def main(argv: list[str]) -> int:
    """Prints the faults; returns the exit status."""
    found = list(faults(Path(argv[0])))
    sys.stderr.writelines(f"{line}\n" for line in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
