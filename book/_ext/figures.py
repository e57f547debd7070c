"""What a page takes from the notebooks cannot go stale.

The directive `notebook-figure` shows a figure that a notebook has drawn, with the notebook's own alt text and a link
to the place where it is drawn:

    ```{notebook-figure} ../notebooks/03_vae.ipynb fig-03-samples
    A caption for this page.
    ```

The figure is the PNG output of the cell whose metadata `mystnb.figure.name` is the name given. The caption of a
chapter's own figure is the paragraph below it that begins with **Figure.**, which Colab shows in the same place. A page
that shows a figure or quotes a number (`{glue:text}`) is built again whenever the notebook has changed.
"""

import base64
import hashlib
import json
import os
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.ext.glue.utils import PendingGlueReference
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective


def stored_figure(notebook: Path, name: str) -> tuple[bytes, str]:
    """Return the PNG and the alt text of the figure `name` as stored in `notebook`."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        options = cell["metadata"].get("mystnb", {})
        if options.get("figure", {}).get("name") == name:
            for output in cell["outputs"]:
                if png := output.get("data", {}).get("image/png"):
                    return base64.b64decode("".join(png)), options["image"]["alt"]
    raise ValueError(f"{notebook.name} has no figure named {name!r} among its outputs")


class NotebookFigure(SphinxDirective):
    """A figure out of a notebook's outputs, linked to its place in the chapter."""

    required_arguments = 2
    option_spec = {"class": directives.class_option}  # noqa: RUF012  (Sphinx reads it from the class)
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The figure, or a warning that names what is missing."""
        source, name = self.arguments
        relative, path = self.env.relfn2path(source)
        self.env.note_dependency(relative)
        try:
            png, alt = stored_figure(Path(path), name)
        except (OSError, ValueError) as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]

        # myst-nb writes the chapter's own copy under the same name into the same folder.
        folder = Path(self.env.mystnb_config.output_folder)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{hashlib.sha256(png).hexdigest()}.png"
        file.write_bytes(png)

        document = self.env.path2doc(path)
        target = self.env.app.builder.get_relative_uri(self.env.docname, document) + f"#{name}"
        uri = "/" + Path(os.path.relpath(file, self.env.srcdir)).as_posix()
        link = nodes.reference("", "", nodes.image(uri=uri, alt=alt), refuri=target)
        figure = nodes.figure("", link, classes=self.options.get("class", []))
        if self.content:
            text, messages = self.parse_inline(" ".join(self.content), lineno=self.lineno)
            figure += [nodes.caption("", "", *text), *messages]
        return [figure]


def note_glued_notebooks(app, doctree) -> None:
    """Make a page depend on the notebooks whose numbers it quotes."""
    for reference in doctree.findall(PendingGlueReference):
        app.env.note_dependency(app.env.doc2path(reference.refdoc, base=False))


def take_captions(app, doctree) -> None:
    """Make the paragraph that begins with **Figure.** the caption of the figure above it."""
    for mark in list(doctree.findall(nodes.strong)):
        paragraph = mark.parent
        if mark.astext() != "Figure." or paragraph.astext().find("Figure.") != 0:
            continue
        above = paragraph.parent[paragraph.parent.index(paragraph) - 1]
        figures = list(above.findall(nodes.figure))
        if not figures:
            logging.getLogger(__name__).warning("a caption without a figure above it", location=paragraph)
            continue
        paragraph.parent.remove(paragraph)
        text = paragraph.children[paragraph.index(mark) + 1 :]
        text[0] = nodes.Text(text[0].lstrip())
        figures[-1] += nodes.caption("", "", *text)


def setup(app) -> dict[str, bool]:
    """Tell Sphinx what this extension adds."""
    app.add_directive("notebook-figure", NotebookFigure)
    app.connect("doctree-read", note_glued_notebooks)
    app.connect("doctree-read", take_captions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
