"""Formulas of more than one line keep their number.

Sphinx puts `split` around every formula with a line break in it, and `split` allows no `\\tag`. Such a formula brings
its own environment (`aligned`, say), as Colab needs it to; here it is handed to MathJax as it is written.
"""

from docutils import nodes


def keep_as_written(app, doctree) -> None:
    """Tell Sphinx to wrap nothing around formulas that have line breaks."""
    for formula in doctree.findall(nodes.math_block):
        if r"\\" in formula.astext() and not formula.get("nowrap"):
            formula["nowrap"] = True
            formula.children = [nodes.Text(rf"\[{formula.astext()}\]")]


def setup(app) -> dict[str, bool]:
    """Tell Sphinx what this extension adds."""
    app.connect("doctree-read", keep_as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
