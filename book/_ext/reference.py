"""What Sphinx's autodoc must know to read this library: how its docstrings are laid out, and where a name leads.

A docstring is written for people who read it as text: a formula is an indented block, a section such as `Source:` may
be one line, names stand in backticks. `book/api.md` says what is shown; (2.8) becomes a link in `equations`.
"""

import re
import sys
from textwrap import indent
from types import GenericAlias
from typing import Any, Union

from docutils import nodes
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc.mock import _MockObject, undecorate

LINE = 42  # characters of a signature that a phone shows in one line

# The library is imported without torch. What Sphinx puts in its place lacks what our signatures are made with.
STAND_IN = {
    "__or__": lambda self, other: Union[self, other],  # noqa: UP007  (for Tensor | None)
    "__ror__": lambda self, other: Union[other, self],  # noqa: UP007
    "__getitem__": lambda self, item: GenericAlias(self, (item,)),  # NDArray[Any]
    "__bool__": lambda self: True,  # else its full name is shown, torch.Tensor
    "__mro_entries__": lambda self, bases: (),  # else every subclass would take (*args, **kwargs)
}


def lay_out(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Mark indented blocks as formulas and open one-line sections, before napoleon reads the docstring."""
    text = "\n".join(lines)
    text = re.sub(
        r"^(Equations|Source): (.*(?:\n.+)*)", lambda m: f"{m[1]}:\n" + indent(m[2], "    "), text, flags=re.M
    )
    block = r"(?<=\n\n)( {4}.*(?:\n\n? {4}.*)*)"
    lines[:] = re.sub(block, r".. code-block:: none\n\n\1", text).splitlines()


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of a NamedTuple, which its docstring explains."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def code_of(app: Sphinx, module: str, name: str) -> str | None:
    """Tell viewcode which module has the code of a method or a property: that of its class."""
    outermost = getattr(sys.modules[module], name.split(".")[0])
    return getattr(undecorate(outermost), "__module__", None)


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Mark long signatures, of which the style sheet gives each argument its line (Sphinx's own lines fail axe).

    And add the places that viewcode leads back to: it takes all names of a module to be handed on by one package.
    """
    for entry in doctree.findall(desc_signature):
        if len(entry.astext()) > LINE:
            entry["classes"].append("long")
        package, dot, _ = entry.get("module", "").rpartition(".")
        if dot:
            entry["ids"].append(f"{package}.{entry['fullname']}")


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.Element | None:
    """Look for a name in the package when its own module does not have it."""
    if node.get("refdomain") != "py" or node["reftarget"].startswith("cvae_lib"):
        return None
    target = f"cvae_lib.{node['reftarget']}"
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, shown)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls for an extension."""
    sys.path.insert(0, str(app.srcdir))
    for name, method in STAND_IN.items():
        setattr(_MockObject, name, method)
    app.connect("autodoc-process-docstring", lay_out, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("viewcode-follow-imported", code_of)
    app.connect("doctree-read", mark)
    app.connect("missing-reference", resolve)
    app.add_css_file("reference.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
