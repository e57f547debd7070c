"""Who may import whom, what stays private, what is imported late, and how long things may be."""

import ast
import io
import subprocess
import sys
import tokenize
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cvae_lib

PACKAGE = Path(cvae_lib.__file__).parent
CORE = [f"cvae_lib.{name}" for name in ("networks", "likelihoods", "model", "loss", "train", "classifier")]
NAMED_TUPLE = {"_replace", "_asdict", "_fields"}  # public in spite of their name
LATE = {"torchvision": (), "matplotlib": ("cvae_lib.plot",), "sklearn": ("cvae_lib.classifier",)}
COURSE = "cvae_lib.course"
NOT_THE_LIBRARYS = ("foolbox", "ipywidgets", "huggingface_hub", "IPython")


def sources() -> dict[str, str]:
    """The text of every module of the package, by its full name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = ("cvae_lib", *file.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return found


def is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(text: str, known: dict[str, str]) -> list[tuple[ast.stmt, str]]:
    """Every import, wherever it stands, with the module that it reaches."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append((node, whole if whole in known else node.module))
    return found


def late(text: str) -> set[tuple[int, int]]:
    """Where there are imports inside functions, which run only when these are called."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    inside = [node for function in functions for node in ast.walk(function)]
    return {(node.lineno, node.col_offset) for node in inside if isinstance(node, ast.Import | ast.ImportFrom)}


# The rules, each of which returns what breaks it ----------------------------------------------------------------------


def arrows_the_wrong_way(known: dict[str, str]) -> list[str]:
    """The library imports nothing of the course."""
    library = {name: text for name, text in known.items() if not is_of(name, COURSE)}
    return [f"{name} -> {to}" for name, text in library.items() for _, to in imports(text, known) if is_of(to, COURSE)]


def circles(known: dict[str, str]) -> list[str]:
    """No module needs itself through others, not even late; the package's front door is nobody's way."""
    graph = {name: {to for _, to in imports(text, known) if to in known} for name, text in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def private_names_used_elsewhere(known: dict[str, str]) -> list[str]:
    """What begins with one underscore belongs to its module, and to its object."""

    def is_private(name: str) -> bool:
        return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE

    found = []
    for name, text in known.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                found += [f"{name}: {alias.name}" for alias in node.names if is_private(alias.name)]
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                found += [] if own else [f"{name}: {ast.unparse(node)}"]
    return found


def heavy_imports_at_once(known: dict[str, str]) -> list[str]:
    """torchvision, matplotlib and scikit-learn are imported where they are used; the course's extras nowhere."""
    found = []
    for name, text in known.items():
        inside = late(text)
        for node, to in imports(text, known):
            heavy = next((package for package in LATE if is_of(to, package)), None)
            at_once = (node.lineno, node.col_offset) not in inside
            if heavy and at_once and not is_of(name, COURSE) and name not in LATE[heavy]:
                found.append(f"{name}: {to}")
            if any(is_of(to, package) for package in NOT_THE_LIBRARYS) and not is_of(name, COURSE):
                found.append(f"{name}: {to}")
    return found


def code_lines(text: str) -> set[int]:
    """The numbers of the lines that hold code: no docstrings, comments or blank lines."""
    alone = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    strings = {
        line
        for node in alone
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in layout]
    return {line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - strings


def too_long(known: dict[str, str], module: int = 150, function: int = 40) -> list[str]:
    found = []
    for name, text in known.items():
        lines = code_lines(text)
        found += [f"{name}: {len(lines)}"] if len(lines) > module else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = len(lines & set(range(node.lineno, node.end_lineno + 1)))
                found += [f"{name}.{node.name}: {length}"] if length > function else []
    return found


RULES = [arrows_the_wrong_way, circles, private_names_used_elsewhere, heavy_imports_at_once, too_long]


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    assert rule(sources()) == []


@pytest.mark.parametrize(
    ("rule", "fault", "module"),
    [
        (arrows_the_wrong_way, "from cvae_lib.course import check", "cvae_lib.loss"),
        (arrows_the_wrong_way, "def f():\n    import cvae_lib.course.bands", "cvae_lib.loss"),
        (circles, "from cvae_lib.train import fit", "cvae_lib.loss"),
        (circles, "def f():\n    from cvae_lib import classifier", "cvae_lib.networks"),
        (private_names_used_elsewhere, "from cvae_lib.classifier import _array", "cvae_lib.scores"),
        (private_names_used_elsewhere, "from cvae_lib import classifier\nclassifier._array(3)", "cvae_lib.scores"),
        (private_names_used_elsewhere, "def f(model):\n    return model._noise", "cvae_lib.course.export"),
        (heavy_imports_at_once, "import torchvision.datasets", "cvae_lib.data"),
        (heavy_imports_at_once, "from sklearn.base import clone", "cvae_lib.scores"),
        (heavy_imports_at_once, "if True:\n    from matplotlib import pyplot", "cvae_lib.classifier"),
        (heavy_imports_at_once, "def f():\n    import foolbox", "cvae_lib.train"),
        (too_long, "def f():\n" + 40 * "    f()\n", "cvae_lib.plot"),
        (too_long, 150 * "f()\n", "cvae_lib.plot"),
    ],
)
def test_each_rule_finds_what_breaks_it(rule, fault, module):
    """The fault is added to the package as it is."""
    known = sources()
    assert any(module.split(".")[-1] in found for found in rule(known | {module: known[module] + "\n" + fault + "\n"}))


@pytest.mark.parametrize(
    ("rule", "text", "module"),
    [
        (heavy_imports_at_once, "def f():\n    from torchvision.datasets import mnist", "cvae_lib.data"),
        (heavy_imports_at_once, "from matplotlib import pyplot\nimport foolbox", "cvae_lib.course.figures"),
        (
            private_names_used_elsewhere,
            "def f(self):\n    return self._x, self.y._asdict(), f.__doc__",
            "cvae_lib.loss",
        ),
        (too_long, "def f():\n" + 39 * "    f()\n\n    # a comment\n", "cvae_lib.plot"),
        (too_long, 'def f():\n    """' + 99 * "\n    A long docstring." + '\n    """\n    return 0', "cvae_lib.plot"),
    ],
)
def test_no_rule_finds_fault_with_what_is_allowed(rule, text, module):
    known = sources()
    assert rule(known | {module: known[module] + "\n" + text + "\n"}) == []


# How much there is to read --------------------------------------------------------------------------------------------


def test_what_a_learner_reads_stays_short_and_so_does_the_library():
    """480 lines of code for the core, 950 for the library without the course."""
    lines = {name: len(code_lines(text)) for name, text in sources().items() if not is_of(name, COURSE)}
    assert sum(lines[name] for name in CORE) <= 480
    assert sum(lines.values()) <= 950


# What an import costs -------------------------------------------------------------------------------------------------

COST = """
import sys, time
import torch
start = time.process_time()
import cvae_lib
seconds = time.process_time() - start
print(seconds, *sys.modules)
"""


def test_importing_the_library_takes_little_longer_than_importing_torch():
    """Half a second of the processor at most; up to three times, since others may use the machine."""
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
        seconds, *modules = run.stdout.split()
        assert not {"torchvision", "matplotlib", "sklearn", "foolbox", "ipywidgets", "cvae_lib.course"} & set(modules)
        if float(seconds) < 0.5:
            return
    pytest.fail(f"import cvae_lib took {seconds} s more than import torch")


def test_the_classifier_is_there_without_being_imported_at_once():
    assert "GenerativeClassifier" in cvae_lib.__all__
    assert cvae_lib.GenerativeClassifier.__module__ == "cvae_lib.classifier"
    assert {name for name in cvae_lib.__all__ if not hasattr(cvae_lib, name)} == set()
    with pytest.raises(AttributeError, match="module 'cvae_lib' has no attribute 'Classifier'"):
        cvae_lib.Classifier  # noqa: B018
