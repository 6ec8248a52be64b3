"""The site: `make docs` builds it with Sphinx into build/docs. A warning ends the build."""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.generate import BUILT, filled
from headgate.runtime.http.problem import SITE

project = "Headgate"
copyright = "the Headgate authors, Apache License 2.0"
extensions = ["myst_parser", "docs.site.mermaid"]
exclude_patterns = ["site/**"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["colon_fence"]

highlight_language = "text"  # a block that names no language is not code of Python
smartquotes = False  # they turn --flag into a dash

html_theme = "furo"
html_title = "Headgate"
html_baseurl = SITE
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False


# Files of the repository that the pages link to, and the page of the site that includes each.
INCLUDED = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/reporting.md",
    "helm/headgate/README.md": "reference/chart.md",
}


def _fill(_: Any, page: str, source: list[str]) -> None:
    text = filled(source[0], BUILT)
    to_docs = "../" * page.count("/")
    for file, included in INCLUDED.items():
        text = text.replace(f"](../{to_docs}{file})", f"]({to_docs}{included})")
    source[0] = text


def _keep_slugs(_: Any, page: nodes.document) -> None:
    for section in page.findall(nodes.section):
        slug = section.get("slug")
        if slug and slug not in section["ids"]:
            section["ids"].append(slug)


def setup(app: Any) -> None:
    """Fills what is made when the site is built, and gives each heading the anchor that a Markdown viewer gives it."""
    app.connect("source-read", _fill)
    app.connect("doctree-read", _keep_slugs)
