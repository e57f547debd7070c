"""The API reference, read from the source of the library, so that the book is built without importing torch.

The directive `api` documents one module: every public name, first those listed, then those that a package hands on
itself, then the rest, otherwise in the order of the file. A name is shown as one imports it: `cvae_lib` hands on
`CVAE`, `cvae_lib.course` hands on `course.check`, and `plot.show_images` stays in its module.

    ```{api} cvae_lib.model CVAE
    ```

Docstrings are written for people who read them as text: a formula is an indented block, `Args:` and the like open a
section, a line `name: what it is` opens an item, names stand in backticks, and (2.8) quotes an equation. What
another page says about an object links here by its name: {py:obj}`cvae_lib.elbo`.
"""

import ast
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = "cvae_lib"
SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Raises": "Raises",
    "Equations": "Equations",
    "Source": "Where it comes from",
}
ITEM = re.compile(r"([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*): (.*)", re.DOTALL)
LINE = 42  # characters of a signature that a phone shows in one line
Definition = ast.ClassDef | ast.FunctionDef


# ---- Reading the source ----


def public_names(init: Path) -> list[str]:
    """What a package hands on: its `__all__`, in as many steps as it is written; nothing if it has none."""
    found: list[str] = []
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AugAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if getattr(target, "id", "") == "__all__":
                found += ast.literal_eval(node.value)
    return found


def home(package: Path, module: str, name: str) -> str:
    """Where one imports a name from: the outermost package that hands it on, or its module; without `cvae_lib.`."""
    parts = module.split(".")[1:]
    for depth in range(len(parts)):
        if name in public_names(package.joinpath(*parts[:depth], "__init__.py")):
            return ".".join([*parts[:depth], name])
    return ".".join([*parts, name])


def source_file(package: Path, module: str) -> Path:
    """The file of a module, or of a package what stands in its `__init__.py`."""
    path = package.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def documented(body: list[ast.stmt]) -> dict[str, tuple[ast.stmt, str]]:
    """Public names with their definitions and docstrings; a constant's docstring is the string below it."""
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, Definition):
            name, text = node.name, ast.get_docstring(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name = getattr(node.targets[0] if isinstance(node, ast.Assign) else node.target, "id", "_")
            follows = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            text = after.value.value if follows and isinstance(after.value.value, str) else None
        else:
            continue
        if text and not name.startswith("_"):
            found[name] = node, text
    return found


class _Qualify(ast.NodeTransformer):
    """Write the package's own names in annotations in full, so that they become links."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Attribute(ast.Name(PACKAGE), node.id) if node.id in self.names else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return self.visit(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node


def decorators(node: Definition) -> set[str]:
    """Their names, without arguments."""
    return {ast.unparse(item).split("(")[0] for item in node.decorator_list}


def parameters(node: Definition) -> ast.arguments:
    """The arguments of a function, or of the call that makes an object of a class."""
    if isinstance(node, ast.ClassDef):
        body = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
        if "__init__" in body:
            return parameters(body["__init__"])
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        if "NamedTuple" not in map(ast.unparse, node.bases) and "dataclass" not in decorators(node):
            fields = []
        args = [ast.arg(item.target.id, item.annotation) for item in fields]
        return ast.arguments([], args, None, [], [], None, [item.value for item in fields if item.value])
    arguments = node.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        del arguments.args[0]
    return arguments


def signature(name: str, node: Definition, names: list[str]) -> str:
    """`name(argument: type = default) -> type`, as Sphinx reads it."""
    qualify, arguments = _Qualify(names), parameters(node)
    for argument in [*arguments.args, *arguments.kwonlyargs]:
        argument.annotation = argument.annotation and qualify.visit(argument.annotation)
    returned = getattr(node, "returns", None)
    arrow = f" -> {ast.unparse(qualify.visit(returned))}" if returned and not isinstance(node, ast.ClassDef) else ""
    return f"{name}({ast.unparse(arguments)}){arrow}"


def source(node: ast.stmt, lines: list[str]) -> str:
    """The lines of a definition with its decorators, without its docstring."""
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
    chosen = list(range(first, node.end_lineno + 1))
    if isinstance(node, Definition) and ast.get_docstring(node):
        text = node.body[0]
        chosen = [line for line in chosen if not text.lineno <= line <= text.end_lineno]
    code = "\n".join(lines[line - 1] for line in chosen)
    return re.sub(r"\n{2,}", "\n\n", code)


# ---- Docstrings ----


def inline(text: str) -> list[nodes.Node]:
    """Text whose names in backticks are code, and links where the reference knows them."""
    found: list[nodes.Node] = []
    for i, part in enumerate(re.split(r"`([^`]+)`", " ".join(text.split()))):
        if i % 2:
            target = re.sub(r"\(.*", "", part)
            code = nodes.literal("", part)
            if re.fullmatch(r"[A-Za-z_][\w.]*", target) and not target.startswith(f"{PACKAGE}."):  # that is a module
                options = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refwarn": False}
                code = addnodes.pending_xref("", code, **options, **{"py:module": PACKAGE})
            found.append(code)
        elif part:
            found.append(nodes.Text(part))
    return found


def items(text: str) -> nodes.Node:
    """A list of `name: what it is`, further lines of an item indented; a paragraph when the text is no such list."""
    found = nodes.definition_list(classes=["api-items"])
    for part in re.split(r"\n(?=\S)", text):
        match = ITEM.fullmatch(part)
        if not match:
            return nodes.paragraph("", "", *inline(text))
        term = nodes.term("", "", *inline("`" + match[1].replace(", ", "`, `") + "`"))
        definition = nodes.definition("", nodes.paragraph("", "", *inline(match[2])))
        found += nodes.definition_list_item("", term, definition)
    return found


def dedent(text: str) -> str:
    """Text without the margin that all its lines share."""
    margin = min(len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip())
    return "\n".join(line[margin:] for line in text.splitlines())


def described(text: str) -> list[nodes.Node]:
    """The nodes of a docstring in the house's format."""
    found: list[nodes.Node] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        head = re.match(r"([A-Z]\w+):\s+", block)
        if head and head[1] in SECTIONS:
            found.append(nodes.rubric("", SECTIONS[head[1]], classes=["api-section"]))
            found.append(items(dedent(re.sub(r"^\w+:(\n| )", "", block))))
        elif block.startswith("    "):
            found.append(nodes.literal_block(dedent(block), dedent(block), language="none", classes=["api-formula"]))
        else:
            found.append(items(block) if block[0].islower() else nodes.paragraph("", "", *inline(block)))
    return found


def folded(code: str, summary: str = "Code") -> list[nodes.Node]:
    """Code behind a line that opens it."""
    return [
        nodes.raw("", f'<details class="api-source"><summary>{summary}</summary>', format="html"),
        nodes.literal_block(code, code, language="python"),
        nodes.raw("", "</details>", format="html"),
    ]


# ---- The directive ----


class Api(SphinxDirective):
    """All public names of one module."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        """The module's docstring and an entry for each name."""
        module, *first = self.arguments
        folder = Path(self.env.srcdir) / PACKAGE
        file = source_file(folder, module)
        for path in (file, folder / "__init__.py", folder / "course" / "__init__.py"):
            self.env.note_dependency(str(path.relative_to(self.env.srcdir)))
        text = file.read_text(encoding="utf-8")
        tree, self.lines = ast.parse(text), text.splitlines()
        self.names = public_names(folder / "__init__.py")
        found = documented(tree.body)
        shown = {name: home(folder, module, name) for name in found}
        handed_on = {name for name in found if f"{PACKAGE}.{shown[name]}" != f"{module}.{name}"}
        ordered = sorted(found, key=lambda name: (name not in first, name not in handed_on))  # stable
        self.env.ref_context["py:module"] = PACKAGE
        result = described(ast.get_docstring(tree) or "")
        for name in ordered:
            node, docstring = found[name]
            result += self.entry(shown[name], node, docstring)
        self.env.ref_context.pop("py:module")
        return result

    def entry(self, name: str, node: ast.stmt, docstring: str, within: str = "") -> list[nodes.Node]:
        """One object: its signature, its docstring, its code and its members."""
        options: dict[str, str | None] = {"module": PACKAGE}
        kind, shown = "data", name
        if isinstance(node, ast.ClassDef):
            error = any(ast.unparse(base).endswith("Error") for base in node.bases)
            kind, shown = "exception" if error else "class", signature(name, node, self.names)
            shown = shown.removesuffix("()")
        elif isinstance(node, ast.FunctionDef):
            kind, shown = "method" if within else "function", signature(name, node, self.names)
            if "property" in decorators(node):
                kind, shown = "property", name
                options["type"] = ast.unparse(_Qualify(self.names).visit(node.returns))
            elif "classmethod" in decorators(node):
                options["classmethod"] = None
        self.env.ref_context["py:class"] = within or None  # Sphinx forgets it after each member
        *around, description = self.object(kind, shown, options)
        if len(description[0].astext()) > LINE:
            description[0]["classes"].append("api-long")  # the style sheet gives each argument its line
        content = description[-1]
        content += described(docstring)
        if not isinstance(node, ast.ClassDef):
            content += folded(source(node, self.lines))
            return [*around, description]
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                content += folded(source(inner, self.lines))
        for member, (inner, text) in documented(node.body).items():
            content += self.entry(member, inner, text, within=name)
        return [*around, description]

    def object(self, kind: str, shown: str, options: dict) -> list[nodes.Node]:
        """What Sphinx's own directive for Python objects makes of a signature."""
        directive = self.env.get_domain("py").directive(kind)
        return directive(
            f"py:{kind}",
            [shown],
            options,
            StringList(),
            self.lineno,
            self.content_offset,
            self.block_text,
            self.state,
            self.state_machine,
        ).run()


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls for an extension."""
    app.add_directive("api", Api)
    app.add_css_file("reference.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
