"""The reference pages say what the library, the chapters, the tests and the weights say."""

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
from book_fixture import Book, _built_book  # noqa: F401  (a fixture)
from bs4 import BeautifulSoup, Tag

import cvae_lib
from cvae_lib import plot


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
