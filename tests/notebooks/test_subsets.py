"""Conclusions are drawn from seeded random subsets: MNIST's files are not in random order."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [
        *(ROOT / "notebooks").glob("*.ipynb"),
        *(ROOT / "cvae_lib").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
    ]
)
ROWS = {"images", "labels"}  # the attributes of an `ImageSet` that hold one row for each image

ALLOWED: dict[str, dict[str, str]] = {
    "cvae_lib/data.py": {
        "slice(None)": "everything: the training or the test split",
        "slice(-held_back)": "the fit split, by definition",
        "slice(-held_back, None)": "the validation split",
        "slice(1500)": "the training split of the embedded digits, by definition",
        "slice(1500, None)": "their test split",
    },
    "cvae_lib/course/weights.py": {
        "test.images[:recipe.snapshots]": "shown one by one in the replay of a training; nothing is averaged",
    },
    "cvae_lib/course/export.py": {
        "load('mnist', 'test').labels[:means.shape[1]]": "the labels of those snapshots",
        "mlp.rest[1::2]": "layers, not images",
    },
}
"""By file: the slices that may stay, as they are written, with the reason."""


def sources(path: Path) -> Iterator[str]:
    """The Python of a file: of a notebook all cells in one, since names live on from cell to cell."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield text
        return
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    yield "\n".join(line.replace("%pip", "pass  #") for cell in cells for line in cell.splitlines())


def is_in_file_order(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression holds one row for each image of a data set, in the order of the file."""
    if isinstance(node, ast.Attribute):
        if node.attr in ROWS:
            return not (isinstance(node.value, ast.Call) and called(node.value) == "sample")
        return node.attr in ("loc", "scale", "T") and is_in_file_order(node.value, names)
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Call):
        if called(node) in ("sample", "randperm", "randint", "len"):
            return False
        inner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return any(is_in_file_order(part, names) for part in [*inner, *node.args])
    if isinstance(node, ast.BinOp):
        return is_in_file_order(node.left, names) or is_in_file_order(node.right, names)
    return False


def called(node: ast.Call) -> str:
    """The name of the function that is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_leading_or_strided(part: ast.expr) -> bool:
    """`[:n]`, `[2:n]`, `[::n]` with numbers or names; not `[i : i + n]`, which walks through all."""
    if isinstance(part, ast.Tuple):
        part = part.elts[0]
    if not isinstance(part, ast.Slice):
        return False
    starts_fixed = part.lower is None or isinstance(part.lower, ast.Constant)
    return is_strided(part) or (starts_fixed and part.upper is not None)


def is_strided(part: ast.expr) -> bool:
    """`[::n]`, of whatever; but `[::-1]`, which only turns around, is not."""
    return isinstance(part, ast.Slice) and part.step is not None and ast.unparse(part.step) != "-1"


def slices(source: str) -> Iterator[str]:
    """Every leading or strided slice of a data set, as it is written."""
    names: set[str] = set()
    for node in sorted(
        (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign | ast.Subscript | ast.Call)),
        key=lambda node: (node.lineno, isinstance(node, ast.Assign)),
    ):
        if isinstance(node, ast.Call):
            if called(node) == "slice":  # it may be applied to anything later
                yield ast.unparse(node)
            continue
        if isinstance(node, ast.Subscript):
            in_order = is_leading_or_strided(node.slice) and is_in_file_order(node.value, names)
            if in_order or is_strided(node.slice):
                yield ast.unparse(node)
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            elif isinstance(target, ast.Tuple):
                pairs = [(name, node.value) for name in target.elts]
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    in_order = is_in_file_order(value, names)
                    (names.add if in_order else names.discard)(name.id)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_subset_is_leading_or_strided(path: Path) -> None:
    found = {written for source in sources(path) for written in slices(source)}
    allowed = ALLOWED.get(str(path.relative_to(ROOT)), {})
    assert found == set(allowed), "draw a subset with ImageSet.sample(n, seed), or say in ALLOWED why this one will do"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = test.images[:50]", ["test.images[:50]"]),
        ("x, y = test.images, test.labels\nz = x[::6]", ["x[::6]"]),
        ("posterior = model.encode(test.images)\nfew = posterior.loc[:1000]", ["posterior.loc[:1000]"]),
        ("x = train.images[: max(1, n)]", ["train.images[:max(1, n)]"]),
        ("images = train.images.double()\nx = images[1::2, None]", ["images[1::2, None]"]),
        ("x = test.sample(50, seed=0).images[:10]", []),
        ("x = test.sample(50, seed=0).images\ny = x[:10]", []),
        ("for i in range(0, n, 20):\n    part = test.images[i : i + 20]", []),
        ("x = test.images[torch.randperm(n)]\ny = x[:10]", []),
        ("x = test.images\nx = torch.zeros(3)\ny = x[:2]", []),
        ("one = test.images[7]", []),
        ("z = codes(data)\nx = z[1::2]", ["z[1::2]"]),
        ("every = slice(0, None, 50)", ["slice(0, None, 50)"]),
        ("ticks = names[::-1]", []),
    ],
)
def test_such_slices_are_found(source: str, found: list[str]) -> None:
    assert list(slices(source)) == found
