"""Stored outputs are compared for real, and every notebook runs by itself from an installed package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from myst_nb.core.variables import format_plain_text
from myst_nb.ext.glue import extract_glue_data
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CELLS = {
    "imports": (
        "import time\nfrom pathlib import Path\nimport torch\nfrom matplotlib import pyplot as plt\n"
        'from cvae_lib.course import bands, check\nbands.BANDS = Path("bands.toml")'
    ),
    "shape": "print(torch.zeros(3, 28).shape)",
    "value": 'check("loss", 141 + time.time() % 1)',
    "seconds": 'print(f"training took {time.time() % 60:.1f} s")',
    "table": 'print(f"ELBO {-141 - time.time() % 1:8.2f} ± {time.time() % 1:.2f}   of 200 images")',
    "figure": "plt.imshow(torch.rand(28, 28));",
}
# A change of a cell's stored output, and whether the comparison must accept it.
CHANGES = [
    ("shape", "", "", True),
    ("shape", "28", "29", False),
    ("value", "", "", True),  # already another value: it comes from the clock
    ("value", r"14\d\.\d+", "139.5", True),
    ("value", "about 141", "about 142", False),
    ("value", "loss", "kl", False),
    ("seconds", r"\d+\.\d", "1234.5", True),
    ("seconds", "training", "testing", False),
    ("table", "", "", True),
    ("table", r"-14\d\.\d+ ±", "-9.5 ±", True),
    ("table", "200", "100", False),
    ("table", "ELBO", "KL", False),
    ("figure", "", "", True),
    ("figure", "640x480", "320x240", False),
]


def execute(notebook, folder: Path):
    """Run a notebook in a folder, as the book's are run; returns it with its outputs."""
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


# Comparison ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a band for the notebook below."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "bands.toml").write_text(
        "[words]\nloss = 'loss'\n[digits]\nloss = [139, 141, 143]\n[mnist]\nloss = [139, 141, 143]\n"
    )
    return folder


@pytest.fixture(scope="module")
def executed(folder) -> dict:
    """The cells by name, with their outputs."""
    notebook = execute(new_notebook(cells=[new_code_cell(source) for source in CELLS.values()]), folder)
    return dict(zip(CELLS, notebook.cells, strict=True))


@pytest.fixture(scope="module")
def accepted(executed, folder) -> dict:
    """For each change, whether `pytest --nbval` with the project's settings passes the cell with that change."""
    changed = [executed["imports"]]
    for cell, old, new, _ in CHANGES:
        outputs = json.dumps(executed[cell].outputs)
        outputs = json.loads(re.sub(old, new, outputs) if old else outputs)
        changed.append(new_code_cell(CELLS[cell], execution_count=1, outputs=nbformat.from_dict(outputs)))
    nbformat.write(new_notebook(cells=changed), folder / "stored.ipynb")
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder)
    settings = ["-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", f"--junitxml={folder / 'report.xml'}"]
    subprocess.run([sys.executable, "-m", "pytest", *settings, folder / "stored.ipynb"], cwd=ROOT, capture_output=True)
    imports, *verdicts = [case.find("*") is None for case in ElementTree.parse(folder / "report.xml").iter("testcase")]
    assert imports
    return {change[:3]: verdict for change, verdict in zip(CHANGES, verdicts, strict=True)}


@pytest.mark.parametrize(("cell", "old", "new", "acceptable"), CHANGES)
def test_nbval_masks_what_may_differ_and_nothing_else(accepted, cell, old, new, acceptable):
    assert accepted[cell, old, new] == acceptable


def test_a_measured_value_is_stored_so_that_the_book_can_quote_it(executed):
    """Read by the code of myst-nb that does it; the book shows the printed lines and not the record."""
    printed = executed["value"].outputs[0].text
    shown = re.fullmatch(r"loss:\n  you should see about 141\.\n  Here it is (\S+)\.\n", printed)[1]
    notebook = nbformat.from_dict({"cells": [json.loads(json.dumps(executed["value"]))]})
    record = extract_glue_data(notebook, source_map=[0], logger=None)["loss"]
    assert format_plain_text(record["data"]["text/plain"], ".1f") == shown
    assert [output.output_type for output in notebook.cells[0].outputs] == ["stream"]


# Standing alone --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder with the package in it, installed from a wheel."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("cvae_lib-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    return target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_alone_from_the_installed_package(path, installed, tmp_path, monkeypatch):
    """In a folder of its own, on the embedded digits, without MNIST: what a reader has who opens just this file."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setenv("CVAE_DATASET", "digits")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delenv("CVAE_DATA", raising=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_code_cell("import cvae_lib\nprint(cvae_lib.__file__)"))
    execute(notebook, tmp_path)
    assert Path(notebook.cells[-1].outputs[0].text.strip()) == installed / "cvae_lib" / "__init__.py"
