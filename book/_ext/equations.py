"""Every numbered equation of the chapters, and where it is computed and checked, found in the files themselves.

A chapter numbers an equation with `\\tag{3.4}`. A function of the library names the equations that it computes in its
docstring, `Equations: (3.4), (7.2)`; a test quotes (3.4) in its own. From these the directives make a page:

    ```{equations}                one table a chapter: the equation, its functions, its tests and its cell
    ```
    ```{equation-tests}           the tests that the tables lead to, with their code
    ```

In the whole book a quoted number, such as (3.4), is a link to the equation. In Colab it is plain text.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PACKAGE = "cvae_lib"
QUOTE = re.compile(r"\((\d+\.\d+)\)")
COMPARES = re.compile(r"^\s*assert\b|\b(?:check|allclose|isclose|assert_close)\(", re.MULTILINE)
TAG = re.compile(r"\\tag\{([^}]*)\}")
NOT_PROSE = (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.reference, nodes.title, addnodes.pending_xref)


class Equation(NamedTuple):
    """One numbered equation."""

    number: str  # such as "3.4"
    formula: str  # LaTeX without its number
    chapter: str  # the page, such as "notebooks/03_vae"
    title: str  # of the chapter
    cell: int | None  # the cell of code that checks it or at least uses it, counted from 0
    checked: bool  # whether that cell compares


class Quote(NamedTuple):
    """A function or a test that names equations in its docstring."""

    name: str  # such as "elbo", "CVAE.encode", "course.figures.show_codes" or "test_..."
    file: str  # such as "tests/library/test_loss.py"
    numbers: tuple[str, ...]
    docstring: str
    code: str

    @property
    def place(self) -> str:
        """Where the page of the equations shows a test."""
        return f"{Path(self.file).stem}-{self.name}".replace("_", "-")


# ---- Reading the files ----


def equations(root: Path, chapters: list[str]) -> tuple[dict[str, Equation], list[str]]:
    """The equations of the chapters by number, in their order, and what is wrong with them."""
    found: dict[str, Equation] = {}
    faults = []
    for chapter in chapters:
        cells = json.loads((root / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        title = sources[0].splitlines()[0].removeprefix("# ")
        for at, text in enumerate(sources):
            if cells[at]["cell_type"] != "markdown":
                continue
            formulas = [formula for formula in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL) if TAG.search(formula)]
            if len(TAG.findall(text)) != len(formulas):
                faults.append(f"{chapter}, cell {at}: a \\tag outside of $$ ... $$, or two in one formula")
            for formula in formulas:
                number = TAG.search(formula)[1]
                if not re.match(rf"{number.split('.')[0]}[a-z]?\.", title):  # a deep dive beside chapter 10 is 10a
                    faults.append(f"{chapter}: ({number}) does not carry the number of its chapter")
                if number in found:
                    faults.append(f"({number}) is the number of two equations: {found[number].chapter} and {chapter}")
                cell, checked = belonging(cells, at, formula, number)
                found.setdefault(number, Equation(number, TAG.sub("", formula).strip(), chapter, title, cell, checked))
    return found, faults


def belonging(cells: list[dict], at: int, formula: str, number: str) -> tuple[int | None, bool]:
    """The cell of code that belongs to an equation of cell `at`, and whether it compares.

    Cells belong to it that quote the number or stand below a text that does, and the next cell before a new section
    begins, which is no solution of an exercise if there is another. The first that compares is taken, else the first.
    """
    here, below, quoting = True, [], []
    for index, cell in enumerate(cells[at:], at):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            here = here and not re.search(r"^## ", text.split(formula)[-1] if index == at else text, re.MULTILINE)
            announced = index > at and f"({number})" in text
        elif announced or f"({number})" in text:
            quoting.append(index)
            announced = False
        elif here:
            below.append(index)
    below.sort(key=lambda index: "solution" in cells[index]["metadata"].get("tags", []))
    found = sorted(below[:1] + quoting)
    comparing = [index for index in found if compares(cells[index])]
    return next(iter(comparing + found), None), bool(comparing)


def compares(cell: dict) -> bool:
    """Whether a cell holds something against something else.

    It asserts, or calls a function such as `check` or `allclose`; or it prints two values that the text compares, and
    says so by its tag `compares`.
    """
    tags = cell["metadata"].get("tags", [])
    return "compares" in tags or bool(COMPARES.search("".join(cell["source"])))


def documented(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and docstrings of the public functions and classes in a module, members of classes too."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield from documented(node.body, f"{node.name}.")


def home(package: Path, module: str, name: str) -> str:
    """Where one imports a name from: the outermost package that hands it on, or its module; without `cvae_lib.`."""
    parts = module.split(".")[1:]
    for depth in range(len(parts)):
        init = package.joinpath(*parts[:depth], "__init__.py").read_text(encoding="utf-8")
        if any(f'"{name}"' in line for line in re.findall(r"^__all__.*", init, re.MULTILINE)):
            return ".".join([*parts[:depth], name])
    return ".".join([*parts, name])


def without_docstring(test: ast.FunctionDef, lines: list[str]) -> str:
    """The lines of a test with its decorators."""
    first = min(node.lineno for node in [test, *test.decorator_list])
    said = test.body[0]
    return "\n".join(lines[first - 1 : said.lineno - 1] + lines[said.end_lineno : test.end_lineno])


def functions(root: Path) -> list[Quote]:
    """Everything public in the library whose docstring names equations in its section `Equations`."""
    found = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        path = file.relative_to(root)
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for name, text in documented(ast.parse(file.read_text(encoding="utf-8")).body):
            outer, *member = name.split(".")
            for section in re.findall(r"^\s*Equations: (.*)", text, re.MULTILINE):
                if numbers := tuple(QUOTE.findall(section)):
                    shown = ".".join([home(root / PACKAGE, module, outer), *member])
                    found.append(Quote(shown, path.as_posix(), numbers, text, ""))
    return found


def tests(root: Path) -> list[Quote]:
    """Every test whose docstring quotes an equation."""
    found = []
    for file in sorted((root / "tests").rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                docstring = ast.get_docstring(node) or ""
                if numbers := tuple(QUOTE.findall(docstring)):
                    code = without_docstring(node, text.splitlines())
                    found.append(Quote(node.name, file.relative_to(root).as_posix(), numbers, docstring, code))
    return found


def faults_of_quotes(known: dict[str, Equation], quotes: list[Quote]) -> list[str]:
    """Quotes of equations that no chapter has, and equations that nothing computes or checks."""
    quoted = {number for quote in quotes for number in quote.numbers}
    unknown = [
        f"{quote.file}: {quote.name} quotes ({number}), which no chapter has"
        for quote in quotes
        for number in quote.numbers
        if number not in known
    ]
    alone = [
        f"({equation.number}) of {equation.chapter} has neither a function, nor a test, nor a cell of its chapter"
        for equation in known.values()
        if equation.cell is None and equation.number not in quoted
    ]
    return unknown + alone


# ---- The page of the equations ----


class Equations(SphinxDirective):
    """A table for each chapter."""

    def run(self) -> list[nodes.Node]:
        """Sections with a table each."""
        root = Path(self.env.srcdir)
        known = self.env.course_equations
        self.functions, self.tests = functions(root), tests(root)
        self.env.note_reread()  # in every build: there may be a new file
        for fault in faults_of_quotes(known, self.functions + self.tests):
            logging.getLogger(__name__).warning(fault, location=self.env.docname)
        sections = []
        for chapter, title in dict.fromkeys((equation.chapter, equation.title) for equation in known.values()):
            section = nodes.section(ids=[Path(chapter).name], names=[])
            section += nodes.title("", title)
            section += self.table([equation for equation in known.values() if equation.chapter == chapter])
            sections.append(section)
        return sections

    def table(self, chosen: list[Equation]) -> nodes.table:
        """Number; formula with what computes and what checks it."""
        body = nodes.tbody()
        for equation in chosen:
            number = self.link(f"({equation.number})", equation, place(equation.number))
            formula = nodes.math_block("", equation.formula, nowrap=False, number=None, label=None)
            cell = nodes.entry("", formula, self.where(equation))
            body += nodes.row("", nodes.entry("", nodes.paragraph("", "", number)), cell)
        names = ("no.", "equation, computed by, checked by, used in")
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", name)) for name in names))
        columns = [nodes.colspec(colwidth=1, stub=1), nodes.colspec(colwidth=9)]
        return nodes.table("", nodes.tgroup("", *columns, nodes.thead("", head), body, cols=2), classes=["equations"])

    def where(self, equation: Equation) -> nodes.definition_list:
        """The functions that compute an equation; the cell and the tests that check it, or the cell that uses it."""
        computed = [self.function(quote) for quote in self.functions if equation.number in quote.numbers]
        tested = [
            nodes.reference("", "", nodes.literal("", quote.name), refid=quote.place)
            for quote in self.tests
            if equation.number in quote.numbers
        ]
        cell = []
        if equation.cell is not None:
            text = f"a cell of chapter {equation.title.split('.')[0]}"
            cell = [self.link(text, equation, f"cell-{equation.cell}")]
        checked, used = (cell + tested, []) if equation.checked else (tested, cell)
        found = nodes.definition_list(classes=["where"])
        for name, links in (("computed by", computed), ("checked by", checked), ("used in", used)):
            if links:
                listed = nodes.definition("", *(nodes.paragraph("", "", link) for link in links))
                found += nodes.definition_list_item("", nodes.term("", name), listed)
        return found

    def link(self, text: str, equation: Equation, anchor: str) -> nodes.reference:
        """A link into a chapter."""
        page = self.env.app.builder.get_relative_uri(self.env.docname, equation.chapter)
        return nodes.reference("", text, refuri=f"{page}#{anchor}", internal=True)

    def function(self, quote: Quote) -> nodes.Node:
        """A link to the entry of a function in the API reference."""
        options = {"refdomain": "py", "reftype": "obj", "reftarget": f"{PACKAGE}.{quote.name}", "refwarn": True}
        return addnodes.pending_xref("", nodes.literal("", quote.name), **options)


class EquationTests(SphinxDirective):
    """The tests that quote an equation."""

    def run(self) -> list[nodes.Node]:
        """One entry each: name, file, docstring and code."""
        found: list[nodes.Node] = []
        for quote in tests(Path(self.env.srcdir)):
            name = nodes.paragraph("", "", nodes.literal("", quote.name), nodes.Text(f" in {quote.file}"))
            said = [nodes.paragraph("", "", *with_names(part)) for part in quote.docstring.split("\n\n")]
            code = nodes.literal_block(quote.code, quote.code, language="python")
            fold = nodes.raw("", "<details><summary>Code</summary>", format="html")
            end = nodes.raw("", "</details>", format="html")
            found.append(nodes.container("", name, *said, fold, code, end, ids=[quote.place], classes=["test"]))
        return found


def with_names(text: str) -> list[nodes.Node]:
    """Text whose names in backticks are code."""
    parts = " ".join(text.split()).split("`")
    return [nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)]


# ---- In the chapters: places to link to, and numbers that are links ----


def place(number: str) -> str:
    """The anchor of an equation in its chapter."""
    return "equation-" + number.replace(".", "-")


def collect(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read the equations of all chapters; when they have changed every page is built again."""
    chapters = sorted(page for page in env.found_docs if page.startswith("notebooks/"))
    known, faults = equations(Path(env.srcdir), chapters)
    for fault in faults:
        logging.getLogger(__name__).warning(fault)
    if known == getattr(env, "course_equations", None):
        return []
    env.course_equations = known
    return sorted(env.found_docs)


def add_places(app: Sphinx, doctree: nodes.document) -> None:
    """Give each numbered equation and each cell of code an anchor."""
    for formula in doctree.findall(nodes.math_block):
        for number in TAG.findall(formula.astext()):
            formula["ids"].append(place(number))
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            cell["ids"].append(f"cell-{cell['cell_index']}")


def link_quotes(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Turn a number such as (3.4) in running text into a link to that equation."""
    known = app.env.course_equations
    for text in list(doctree.findall(nodes.Text)):
        parts = QUOTE.split(text)
        above = text.parent
        while above and not isinstance(above, NOT_PROSE):
            above = above.parent
        if len(parts) == 1 or above or not any(number in known for number in parts[1::2]):
            continue
        linked = []
        for i, part in enumerate(parts):
            shown = f"({part})" if i % 2 else part
            if i % 2 and part in known:
                target = app.builder.get_relative_uri(page, known[part].chapter)
                linked.append(nodes.reference("", shown, refuri=f"{target}#{place(part)}", internal=True))
            elif shown:
                linked.append(nodes.Text(shown))
        text.parent.replace(text, linked)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls for an extension."""
    app.add_directive("equations", Equations)
    app.add_directive("equation-tests", EquationTests)
    app.connect("env-get-outdated", collect)
    app.connect("doctree-read", add_places)
    app.connect("doctree-resolved", link_quotes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
