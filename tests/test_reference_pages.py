"""The reference pages say what the library, the chapters, the tests and the weights say."""

import hashlib
import inspect
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from book_fixture import Book, _built_book  # noqa: F401  (the fixture built_book)
from bs4 import BeautifulSoup, Tag

import cvae_lib
from cvae_lib import RECIPES, dataset_name, load, plot, pretrained_names
from cvae_lib.data import MNIST_FILES
from cvae_lib.model import WEIGHTS


@cache
def parsed(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def words(said: str) -> str:
    """Text with single spaces, typewriter quotes and no backticks, as pages and docstrings both can be read."""
    plain = said.translate(str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "`": None}))
    return " ".join(plain.split())


# ---- The library ----

PUBLIC = {name: getattr(cvae_lib, name) for name in cvae_lib.__all__} | {
    f"plot.{name}": value
    for name, value in vars(plot).items()
    if inspect.isfunction(value) and value.__module__ == plot.__name__ and not name.startswith("_")
}


def signature_on(page: BeautifulSoup, name: str) -> Tag:
    found = page.find(id=f"cvae_lib.{name}")
    assert found, f"book/api.md does not document {name}"
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(built_book: Book, name: str) -> None:
    """With the arguments and the first paragraph that Python itself reports; the book never imports the library."""
    signature, value = signature_on(parsed(built_book.html / "book" / "api.html"), name), PUBLIC[name]
    if not callable(value):
        return
    first_paragraph = inspect.getdoc(value).split("\n\n")[0]
    assert words(first_paragraph) in words(signature.find_next_sibling("dd").get_text())
    if inspect.isclass(value) and issubclass(value, Exception | list):
        return
    shown = {
        argument.select_one(".n").get_text(): argument.select_one(".default_value") is not None
        for argument in signature.select(".sig-param")
        if argument.get_text() != "*"
    }
    parameters = inspect.signature(value).parameters.values()
    assert shown == {parameter.name: parameter.default is not parameter.empty for parameter in parameters}


def test_every_public_method_is_documented(built_book: Book) -> None:
    page = parsed(built_book.html / "book" / "api.html")
    for name in ("CVAE", "GenerativeClassifier", "ElboTerms", "History"):
        own = [method for method in vars(PUBLIC[name]) if not method.startswith("_") and method not in ("forward",)]
        for method in own:
            if inspect.getdoc(getattr(PUBLIC[name], method)) and callable(getattr(PUBLIC[name], method)):
                signature_on(page, f"{name}.{method}")


def test_names_in_docstrings_lead_to_their_entries(built_book: Book) -> None:
    page = parsed(built_book.html / "book" / "api.html")
    linked = {link["href"] for link in page.select("dl.py a.reference.internal")}
    assert {"#cvae_lib.CVAE.encode", "#cvae_lib.Decoder", "#cvae_lib.elbo_terms"} <= linked
    raw = re.findall(r"(?:Args|Returns|Raises|Source|Equations):", page.select_one("article").get_text())
    assert not raw, f"sections of docstrings that were not understood: {raw}"


# ---- Data and weights ----


def rows_of(page: BeautifulSoup, place: str) -> dict[str, str]:
    """The facts in one section: name and what is said about it."""
    rows = page.find(id=place).select("table.facts tbody tr")
    return {words(row.th.get_text()): words(row.td.get_text(" ")) for row in rows}


def test_the_page_of_the_data_names_the_files_that_the_library_checks(built_book: Book) -> None:
    shown = rows_of(parsed(built_book.html / "book" / "data.html"), "mnist")
    assert shown == {name: f"{size:,} bytes {digest}" for name, (digest, size) in MNIST_FILES.items()}


def test_the_sizes_of_the_splits_are_those_that_load_gives(built_book: Book) -> None:
    rows = parsed(built_book.html / "book" / "data.html").select("#splits-and-the-rule-about-the-test-set tbody tr")
    shown = {cells[0]: cells[1:3] for cells in ([cell.get_text().strip() for cell in row.select("td")] for row in rows)}
    assert list(shown) == ["train", "test", "fit", "validation"]
    for split, (mnist, digits) in shown.items():
        assert digits == f"{len(load('digits', split)):,}"
        if dataset_name() == "mnist":
            assert mnist == f"{len(load('mnist', split)):,}"


@pytest.mark.parametrize("name", pretrained_names())
def test_the_figures_of_the_weights_are_those_of_their_logs(built_book: Book, name: str) -> None:
    """Mean and spread over seeds by numpy, from the log; the checksum of the file that loads."""
    shown = rows_of(parsed(built_book.html / "book" / "data.html"), f"weights-{name}")
    log = json.loads((WEIGHTS / name / "training.json").read_text())
    last = [run["epochs"][-1] for run in log["runs"]]
    for row, column in {
        "training loss": "loss",
        "test loss": "held_out_loss",
        "test reconstruction": "held_out_reconstruction",
        "test KL": "held_out_kl",
    }.items():
        values = np.array([epoch[column] for epoch in last])
        assert shown[row] == f"{values.mean():.2f} ± {values.std(ddof=1):.2f} nats"
    assert shown["SHA-256"] == hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    assert shown["seeds"].startswith(", ".join(str(seed) for seed in RECIPES[name].seeds))
    assert f"epochs={RECIPES[name].epochs}" in shown["training"]
    assert all(f"{argument}={value!r}" in shown["model"] for argument, value in RECIPES[name].model.items())
