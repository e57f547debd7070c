"""Measured values are held to bands, and the file of bands and the notebooks agree on what is measured."""

import math
import re
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from cvae_lib.course import bands, check

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def two_bands(tmp_path, monkeypatch):
    """A file of bands that differ by data set, and the digits chosen."""
    file = tmp_path / "bands.toml"
    file.write_text(
        '[words]\n"vae.loss" = "loss on the training images, in nats"\n"low" = "any"\n[seeds]\n"low" = 0.5\n'
        '[mnist]\n"vae.loss" = [1, 1.5, 2]\n[digits]\n"vae.loss" = [139.0, 141, 142.5]\n"low" = [-1, 7000, 1e4]\n'
    )
    monkeypatch.setattr(bands, "BANDS", file)
    monkeypatch.setenv("CVAE_DATASET", "digits")


@pytest.mark.usefixtures("two_bands")
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("vae.loss", 140.8749, "you should see about 141.\n  Here it is 140.9."),
        ("vae.loss", torch.tensor(139.0), "you should see about 141.\n  Here it is 139.0."),
        ("vae.loss", np.float64(142.5), "you should see about 141.\n  Here it is 142.5."),
        ("low", 0, "any:\n  you should see about 7,000.\n  Here it is 0.\n  Other seeds vary by 0.5."),
    ],
)
def test_a_reader_is_told_what_to_expect_and_what_it_is_here(capsys, name, value, expected):
    check(name, value)
    printed = capsys.readouterr().out
    assert printed.endswith(expected + "\n")
    assert all(len(line) <= bands.WIDTH for line in printed.splitlines())
    assert not re.search(r" in \[|_|vae\.", printed), "a reader is shown no band and no key"


@pytest.mark.usefixtures("two_bands")
@pytest.mark.parametrize("value", [138.99, 142.51, math.nan, -math.inf])
def test_a_value_outside_its_band_raises_and_prints_nothing(capsys, value):
    with pytest.raises(AssertionError, match=rf"vae.loss is {value:.2f}, outside the band \[139, 142.5\] for digits"):
        check("vae.loss", value)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("two_bands")
def test_each_data_set_has_bands_of_its_own(monkeypatch):
    with pytest.raises(KeyError, match=r"bands\.toml has no band 'vae.kl' for digits"):
        check("vae.kl", 6)
    monkeypatch.setenv("CVAE_DATASET", "mnist")
    with pytest.raises(AssertionError, match=r"outside the band \[1, 2\] for mnist"):
        check("vae.loss", 140)


def checked_names(notebook: Path) -> list[str]:
    """The names of the values that a notebook's stored outputs hold, in order."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output.get("metadata", {}) for cell in cells for output in cell.outputs]
    return [metadata["scrapbook"]["name"] for metadata in outputs if "scrapbook" in metadata]


def test_every_band_exists_for_both_data_sets_and_holds_what_a_reader_is_told():
    mnist, digits = (tomllib.loads(bands.BANDS.read_text())[name] for name in ("mnist", "digits"))
    assert list(mnist) == list(digits)
    assert all(low <= about <= high and low < high for low, about, high in [*mnist.values(), *digits.values()])


def test_bands_and_notebooks_name_the_same_values():
    """A band that no notebook measures is stale; a value without a band was measured under an older name."""
    measured = {name for notebook in NOTEBOOKS for name in checked_names(notebook)}
    banded = set(tomllib.loads(bands.BANDS.read_text())["mnist"])
    assert banded == measured, f"no notebook measures {banded - measured}; no band for {measured - banded}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_each_name_once(notebook):
    """The book quotes a value by its name."""
    names = checked_names(notebook)
    assert sorted(names) == sorted(set(names))
