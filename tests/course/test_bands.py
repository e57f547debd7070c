"""Measured values are held to bands, and the file of bands and the notebooks agree on what is measured."""

import math
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
    file.write_text('[mnist]\n"vae.loss" = [1, 2]\n[digits]\n"vae.loss" = [139.0, 142.5]\n"low" = [-1, 1e4]\n')
    monkeypatch.setattr(bands, "BANDS", file)
    monkeypatch.setenv("CVAE_DATASET", "digits")


@pytest.mark.usefixtures("two_bands")
@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("vae.loss", 140.8749, "vae.loss 140.87 in [139, 142.5]"),
        ("vae.loss", torch.tensor(139.0), "vae.loss 139.00 in [139, 142.5]"),
        ("vae.loss", np.float64(142.5), "vae.loss 142.50 in [139, 142.5]"),
        ("low", 0, "low 0.00 in [-1, 10000]"),
    ],
)
def test_a_value_is_printed_beside_its_band(capsys, name, value, line):
    check(name, value)
    assert capsys.readouterr().out == line + "\n"


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


def test_every_band_exists_for_both_data_sets_and_is_an_interval():
    mnist, digits = (tomllib.loads(bands.BANDS.read_text())[name] for name in ("mnist", "digits"))
    assert list(mnist) == list(digits)
    assert all(low < high for low, high in [*mnist.values(), *digits.values()])


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
