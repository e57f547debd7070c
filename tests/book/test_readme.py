"""What README and CONTRIBUTING say: their code runs, and the files and commands that they name exist."""

import re
from typing import Any

import pytest
from built import ROOT
from torch.distributions import Normal

from cvae_lib.course import dataset_name

README, CONTRIBUTING = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
USE, CLASSIFY = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(code: str) -> dict[str, Any]:
    """The names that are there after a block of code."""
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_lines_that_use_a_trained_model_run() -> None:
    if dataset_name() != "mnist":
        pytest.skip("the model is of MNIST, which this run has not")
    names = run(USE)
    assert isinstance(names["posterior"], Normal)
    assert names["pictures"].shape == (16, 784)
    assert names["bounds"].shape == (len(names["images"]),) == (10_000,)


@pytest.mark.slow
def test_the_lines_that_cross_validate_the_classifier_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The README says which share of the digits is read rightly, on average over the folds; others vary around it."""
    claim = float(re.search(r"# about (0\.\d+)", CLASSIFY)[1])
    folds = run(CLASSIFY)["scores"]
    mean, on_test = map(float, capsys.readouterr().out.split())
    assert mean == folds.mean() == pytest.approx(claim, abs=0.02)
    assert len(folds) == 3
    assert [*folds, on_test] == pytest.approx([claim] * 4, abs=0.06)


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_the_files_and_commands_it_names_exist(text: str) -> None:
    paths = set(re.findall(r"(?<![\w./-])(?:cvae_lib|tests|book|notebooks|benchmarks)/[\w./*-]*", text))
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert len(paths) > 3
    assert len(targets) > 2
    assert not sorted(path for path in paths if not any(ROOT.glob(path.rstrip("/."))))
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets <= defined, f"no such targets: {targets - defined}"
