"""A measured value, which `cvae_lib.course.check` prints in three or four lines, becomes a card in the book.

They are what it is, "you should see about 142.", "Here it is 141.9." and, where it was measured, how seeds vary.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

CARD = re.compile(
    r"^(?P<words>\S.*(?:\n {4}\S.*)*):\n"
    r"  (?P<about>you should see about \S+)\n"
    r"  (?P<here>Here it is \S+)"
    r"(?:\n  (?P<seeds>Other seeds .+))?\n?",
    re.MULTILINE,
)


def make_cards(_app: Sphinx, doctree: nodes.document) -> None:
    """Replace the lines of measured values in printed outputs by cards; other lines stay as they were."""
    for block in list(doctree.findall(nodes.literal_block)):
        text, parts, at = block.astext(), [], 0
        for found in CARD.finditer(text):
            parts += [*printed(block, text[at : found.start()]), card(found)]
            at = found.end()
        if parts:
            block.replace_self([*parts, *printed(block, text[at:])])


def printed(block: nodes.literal_block, text: str) -> list[nodes.Node]:
    """The lines between two cards, as a block like the one they came from; nothing if there are none."""
    return [nodes.literal_block(text, text.rstrip("\n"), **block.non_default_attributes())] if text.strip() else []


def card(found: re.Match[str]) -> nodes.container:
    """One measured value."""
    words = " ".join(found["words"].split())
    sentences = " ".join(filter(None, (found["about"], found["here"], found["seeds"])))
    line = nodes.paragraph("", "", nodes.strong("", f"{words[0].upper()}{words[1:]}: "), nodes.Text(sentences))
    return nodes.container("", line, classes=["measured"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx what this extension adds."""
    app.connect("doctree-read", make_cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
