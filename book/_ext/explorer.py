"""Live elements in the pages: custom elements such as `<vae-plane>`, whose scripts lie in `book/_static/explorer`.

A page written in Markdown holds an element as a block of HTML. Notebooks hold none, so that they stay plain in Colab:
there `explorer_below` in `_config.yml` names a chapter's figure and the element to put below it.
Only pages with an element load its scripts.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

SCRIPTS = {
    "elbo-lab": "elbo-lab.js",
    "vae-plane": "plane.js",
    "cvae-plane": "plane.js",
    "training-replay": "replay.js",
    "digit-classifier": "classifier.js",
}
WITHOUT_SCRIPTS = "A live element stands here when scripts may run. It goes with the figure above, which stands still."


def place_below_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Put the elements of `explorer_below` below their figures."""
    for figure in list(doctree.findall(nodes.figure)):
        for name in set(figure["names"]) & set(app.config.explorer_below):
            opening = app.config.explorer_below[name]  # the tag, and attributes if there are any
            element = nodes.raw("", f"<{opening}><p>{WITHOUT_SCRIPTS}</p></{opening.split()[0]}>", format="html")
            cell = figure
            while not isinstance(cell.parent, nodes.section):
                cell = cell.parent
            cell.parent.insert(cell.parent.index(cell) + 1, element)


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give a page the scripts of the elements that it has, to be run when the page has been read."""
    present = [script for tag, script in SCRIPTS.items() if re.search(rf"<{tag}\b", context.get("body", ""))]
    if present:
        app.add_css_file("explorer/explorer.css")
        for script in dict.fromkeys(["engine.js", *present]):
            app.add_js_file(f"explorer/{script}", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls for an extension."""
    app.add_config_value("explorer_below", {}, "env")
    app.connect("doctree-read", place_below_figures)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
