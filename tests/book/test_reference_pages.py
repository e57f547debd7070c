"""The reference pages say what the library, the chapters, the tests and the weights say."""

import hashlib
import importlib
import inspect
import json
import pkgutil
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import equations
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup, Tag
from built import ROOT, Book, pages, parsed

import cvae_lib
from cvae_lib import course, load, pretrained_names
from cvae_lib.course import RECIPES, dataset_name
from cvae_lib.data import KMNIST_FILES, MNIST_FILES
from cvae_lib.pretrained import WEIGHTS


def words(said: str) -> str:
    """Text with single spaces, typewriter quotes and no backticks, as pages and docstrings both can be read."""
    plain = said.translate(str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "`": None}))
    return " ".join(plain.split())


# ---- The library ----

UNDOCUMENTED = {"cvae_lib.checks", "cvae_lib.course.__main__", "cvae_lib.course.export"}  # nobody else calls them


def public(module: ModuleType) -> dict[str, object]:
    """The functions and classes that a module defines, by the name under which one imports them from `cvae_lib`."""
    found = {}
    for name, value in vars(module).items():
        defined_here = inspect.isfunction(value) or inspect.isclass(value)
        if defined_here and value.__module__ == module.__name__ and value.__doc__ and not name.startswith("_"):
            packages = [package for package in (cvae_lib, course) if name in package.__all__]
            from_where = packages[0].__name__ if packages else module.__name__
            found[f"{from_where}.{name}".removeprefix("cvae_lib.")] = value
    return found


MODULES = {info.name for info in pkgutil.walk_packages(cvae_lib.__path__, "cvae_lib.")} - UNDOCUMENTED
PUBLIC = {name: getattr(cvae_lib, name) for name in cvae_lib.__all__} | {
    name: value for module in sorted(MODULES) for name, value in public(importlib.import_module(module)).items()
}


def test_every_module_has_its_place() -> None:
    shown = re.findall(r"^\.\. automodule:: (\S+)", (ROOT / "book" / "api.md").read_text("utf-8"), re.MULTILINE)
    assert Counter(shown) == Counter(MODULES - {"cvae_lib.course"}), "the package itself only hands names on"


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
    inherited = inspect.isclass(value) and value.__init__ is torch.nn.Module.__init__  # which takes no arguments
    parameters = [] if inherited else inspect.signature(value).parameters.values()
    assert shown == {parameter.name: parameter.default is not parameter.empty for parameter in parameters}


def test_every_public_method_is_documented(built_book: Book) -> None:
    """Every one that a class of ours defines with a docstring."""
    page = parsed(built_book.html / "book" / "api.html")
    found = 0
    for name, value in PUBLIC.items():
        for method in vars(value) if inspect.isclass(value) else ():
            function = getattr(value, method)
            ours = str(getattr(function, "__module__", "")).startswith("cvae_lib")
            own_name = getattr(function, "__name__", "") == method  # no second name for another method
            if ours and own_name and function.__doc__ and not method.startswith("_"):
                signature_on(page, f"{name}.{method}")
                found += 1
    assert found > 20


def test_docstrings_are_laid_out(built_book: Book) -> None:
    """Sections, formulas, names of arguments and names that lead to their entries; nothing is left as it was typed."""
    page = parsed(built_book.html / "book" / "api.html")
    linked = {link["href"] for link in page.select("dl.py a.reference.internal")}
    assert {"#cvae_lib.CVAE.encode", "#cvae_lib.PosteriorDraws", "#cvae_lib.elbo_terms"} <= linked
    prose = "\n".join(paragraph.get_text() for paragraph in page.select("dl.py p"))
    raw = re.findall(r"(?:Args|Source|Equations):|.{20}`", prose)
    assert not raw, f"not understood: {raw}"
    sections = {words(title.get_text()) for title in page.select("dl.py :is(p.rubric, dl.field-list > dt)")}
    assert sections == {"Parameters:", "Returns", "Raises:", "Attributes:", "Equations", "Source"}
    items = {words(item.get_text()) for item in page.select("dl.field-list :is(li, dd) > p > strong")}
    assert {"num_samples", "ValueError", "reconstruction, kl, loss"} <= items
    formulas = {words(formula.get_text()) for formula in page.select("dl.py .highlight-none pre")}
    assert "loss = reconstruction + kl = -ELBO" in formulas
    assert "p(y | x) = p(x | y) p(y) / sum_c p(x | c) p(c), log p(x | y) by one of four scores:" in formulas


@pytest.mark.parametrize("name", PUBLIC)
def test_every_entry_leads_to_its_code_and_its_equations(built_book: Book, name: str) -> None:
    """The code on the page of its module, and a link for each equation that the docstring names."""
    page, value = built_book.html / "book" / "api.html", PUBLIC[name]
    signature = signature_on(parsed(page), name)
    file, place = next(link["href"] for link in signature.select("a:has(.viewcode-link)")).split("#")
    code = parsed((page.parent / file).resolve()).find(id=place).get_text()
    assert re.search(rf"^(class|def) {value.__name__}\b", code, re.MULTILINE)
    quoted = re.findall(r"\(\d+\.\d+\)", "".join(re.findall(r"^\s*Equations: (.*)", value.__doc__, re.MULTILINE)))
    linked = [link.get_text() for link in signature.find_next_sibling("dd").select("a[href*='#equation-']")]
    assert set(quoted) <= set(linked)


# ---- Equations ----


def chapters() -> dict[str, list[dict]]:
    """The cells of every chapter that the book shows."""
    shown = [page.removesuffix(".html") for page in pages() if page.startswith("notebooks/")]
    return {page: json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"] for page in shown}


def numbers() -> list[str]:
    """The number of every equation in the chapters, as written."""
    prose = [
        "".join(cell["source"]) for cells in chapters().values() for cell in cells if cell["cell_type"] == "markdown"
    ]
    return re.findall(r"\\tag\{([^}]*)\}", "\n".join(prose))


def test_no_two_equations_have_the_same_number() -> None:
    repeated = [number for number, count in Counter(numbers()).items() if count > 1]
    assert not repeated, f"two equations have the number {repeated}"


def test_every_quoted_equation_exists_and_every_equation_is_checked() -> None:
    """Numbers in docstrings of the library and the tests; a function, a test or a cell for each number."""
    known, faults = equations.equations(ROOT, list(chapters()))
    assert list(known) == numbers()
    faults += equations.faults_of_quotes(known, equations.functions(ROOT) + equations.tests(ROOT))
    assert not faults, "\n".join(faults)


def test_every_row_leads_to_its_equation_its_functions_and_its_checks(built_book: Book) -> None:
    """Row by row: the anchors exist, and what they lead to is the equation, the cell, the function, the test."""
    folder = built_book.html / "book"
    rows = parsed(folder / "equations.html").select("table.equations tbody tr")
    assert [row.select_one("th").get_text().strip() for row in rows] == [f"({number})" for number in numbers()]
    for row in rows:
        links = row.select("a")
        assert len(links) > 1, f"{links[0].get_text()} leads nowhere but to itself"
        number = links[0].get_text()
        for link in links:
            page, anchor = link["href"].split("#")
            target = parsed((folder / page).resolve() if page else folder / "equations.html").find(id=anchor)
            assert target, f"{number}: {link['href']} leads nowhere"
            if link is links[0]:
                assert f"\\tag{{{number.strip('()')}}}" in target.get_text()
            elif "cell-" in anchor:
                assert "cell" in target["class"]
                assert target.select_one(".cell_input")
            elif not page:
                assert f"def {link.get_text()}(" in target.get_text()
                assert number in target.get_text()
            else:
                assert number in target.find_next_sibling("dd").get_text()


def test_only_a_cell_that_compares_is_called_a_check(built_book: Book) -> None:
    """A row says "checked by" of tests and of cells with an assertion, a check or the tag, "used in" of the others."""
    said = Counter()
    for entry in parsed(built_book.html / "book" / "equations.html").select("table.equations dl.where > dt"):
        for link in entry.find_next_sibling("dd").select("a"):
            page, anchor = link["href"].split("#")
            if not anchor.startswith("cell-"):
                assert entry.get_text() == ("computed by" if page else "checked by")
                continue
            cell = chapters()[page.removeprefix("../").removesuffix(".html")][int(anchor.removeprefix("cell-"))]
            code = "".join(cell["source"])
            holds = re.search(r"\bassert |\bcheck\(|allclose\(", code) or "compares" in cell["metadata"].get("tags", [])
            assert entry.get_text() == ("checked by" if holds else "used in"), link["href"]
            said[entry.get_text()] += 1
    assert min(said["checked by"], said["used in"]) > 0


def test_a_cell_with_the_tag_prints_what_it_compares() -> None:
    """Two numbers, or one word on whether they agree; and text follows that reads them."""
    tagged = 0
    for page, cells in chapters().items():
        for at, cell in enumerate(cells):
            if "compares" in cell["metadata"].get("tags", []):
                printed = "".join("".join(output.get("text", [])) for output in cell["outputs"])
                assert len(re.findall(r"-?\d+\.\d+", printed)) > 1 or "True" in printed, f"{page}, cell {at}"
                followed = [cell["cell_type"] for cell in cells[at + 1 : at + 3]]
                assert "markdown" in followed, f"{page}, cell {at}: no text reads what it prints"
                tagged += 1
    assert tagged


@pytest.mark.parametrize(
    ("source", "tags", "expected"),
    [
        ("assert a == b", [], True),
        ("if x:\n    assert close", [], True),
        ('check("vae.test_loss", loss)', [], True),
        ("print(torch.allclose(a, b))", [], True),
        ("print(a, b)", ["compares"], True),
        ("print(a, b)", ["hide-input"], False),
        ("assertion = recheck(a)  # nothing to assert", [], False),
    ],
)
def test_what_compares(source: str, tags: list[str], expected: bool) -> None:
    assert equations.compares({"source": source, "metadata": {"tags": tags}}) is expected


def test_the_cell_of_an_equation_is_the_first_that_compares_else_the_first(tmp_path: Path) -> None:
    """In one section; a later cell counts when it, or the text above it, quotes the number."""

    def cell_of(*rest: str) -> tuple[int | None, bool]:
        sources = ["# 10a. Title", "$$ x \\tag{10.6} $$", *rest]
        code = ("x =", "assert")
        cells = [
            {"cell_type": "code" if text.startswith(code) else "markdown", "source": text, "metadata": {}}
            for text in sources
        ]
        (tmp_path / "10a_title.ipynb").write_text(json.dumps({"cells": cells}))
        known, faults = equations.equations(tmp_path, ["10a_title"])
        assert not faults
        return known["10.6"].cell, known["10.6"].checked

    assert cell_of() == (None, False)
    assert cell_of("x = 1") == (2, False)
    assert cell_of("x = 1", "assert x") == (2, False), "the second may be about something else"
    assert cell_of("x = 1", "assert x  # (10.6)") == (3, True)
    assert cell_of("x = 1", "A test of (10.6):", "assert x") == (4, True)
    assert cell_of("x = 1", "A test of (10.6):", "x = 2", "assert x") == (2, False)
    assert cell_of("## Next", "assert x") == (None, False)
    assert cell_of("assert x", "x = 1  # (10.6)") == (2, True)


def test_a_deep_dive_carries_the_number_of_its_chapter(tmp_path: Path) -> None:
    """A notebook titled 10a has equations (10.x); one titled 1a or 10ab has not."""

    def faults(title: str) -> list[str]:
        cells = [{"cell_type": "markdown", "source": text, "metadata": {}} for text in (title, "$$ x \\tag{10.6} $$")]
        (tmp_path / "side.ipynb").write_text(json.dumps({"cells": cells}))
        return equations.equations(tmp_path, ["side"])[1]

    assert faults("# 10a. Title") == faults("# 10. Title") == []
    for title in ("# 1a. Title", "# 1. Title", "# 100. Title", "# 10ab. Title", "# Title"):
        assert len(faults(title)) == 1, title


def test_a_number_in_running_text_leads_to_its_equation(built_book: Book) -> None:
    links = parsed(built_book.html / "notebooks" / "03_vae.html").select("article a[href$='equation-3-3']")
    assert {link.get_text() for link in links} == {"(3.3)"}


def test_faults_of_equations_are_found(tmp_path: Path) -> None:
    """One of each: a number twice, one of another chapter, one outside of a formula, one unknown, one unchecked."""

    def chapter(number: int, *cells: str) -> str:
        sources = [f"# {number}. Title", *cells]
        notebook = [
            {"cell_type": "code" if text.startswith("x =") else "markdown", "source": text, "metadata": {}}
            for text in sources
        ]
        (tmp_path / f"{number}.ipynb").write_text(json.dumps({"cells": notebook}))
        return str(number)

    pages = [chapter(1, "$$ a \\tag{1.1} $$", "x = 1", "$$ b \\tag{1.1} $$ and $$ c \\tag{2.1} $$")]
    pages += [chapter(2, "\\tag{2.2}", "$$ d \\tag{2.3} $$", "## Next", "x = 2")]
    known, faults = equations.equations(tmp_path, pages)
    assert {number: equation.cell for number, equation in known.items()} == {"1.1": 2, "2.1": None, "2.3": None}
    assert [fault.split(":")[0] for fault in faults] == [
        "(1.1) is the number of two equations",
        "1",
        "2, cell 1",
    ]
    quote = equations.Quote("elbo", "cvae_lib/loss.py", ("1.1", "2.3", "9.9"), "", "")
    faults = equations.faults_of_quotes(known, [quote])
    assert [fault.split()[0] for fault in faults] == ["cvae_lib/loss.py:", "(2.1)"]


# ---- Data and weights ----


def rows_of(page: BeautifulSoup, place: str) -> dict[str, str]:
    """The facts in one section: name and what is said about it."""
    rows = page.find(id=place).select("table.facts tbody tr")
    return {words(row.th.get_text()): words(row.td.get_text(" ")) for row in rows}


@pytest.mark.parametrize(("section", "files"), [("mnist", MNIST_FILES), ("kuzushiji-mnist", KMNIST_FILES)])
def test_the_page_of_the_data_names_the_files_that_the_library_checks(built_book: Book, section, files) -> None:
    shown = rows_of(parsed(built_book.html / "book" / "data.html"), section)
    assert shown == {name: f"{size:,} bytes {digest}" for name, (digest, size) in files.items()}


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
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        assert shown[row] == f"{values.mean():.2f}{spread} nats"
    if "stored_weights_test_log_likelihood" in log:
        bound = log["stored_weights_test_log_likelihood"]
        assert f"at least {bound['mean']:.2f} nats" in shown["test log-likelihood as shipped"]
        assert f"K = {bound['num_samples']:,}" in shown["test log-likelihood as shipped"]
    for bound in ("reconstruction", "elbo", "importance_weighted"):
        runs = [run["accuracy"][bound] for run in log["runs"] if "accuracy" in run]
        for K in runs[0] if runs else ():
            value = 100 * np.mean([run[K] for run in runs])
            row = shown[f"accuracy by {bound.replace('_', ' ')}"]
            said = re.search(rf"([\d.]+) ± [\d.]+ % with K = {K}(;|$)", row)
            assert float(said[1]) == pytest.approx(value, abs=0.0051)
    assert shown["SHA-256"] == hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    assert shown["seeds"].startswith(", ".join(str(seed) for seed in RECIPES[name].seeds))
    for row, arguments in {"training": RECIPES[name].fit, "model": RECIPES[name].model}.items():
        for argument, value in arguments.items():
            assert f"{argument}={tuple(value) if isinstance(value, list) else value!r}" in shown[row]


# ---- Questions ----


def answers(page: BeautifulSoup) -> dict[str, Tag]:
    """The sections of the page of questions: question and answer."""
    return {words(section.h3.get_text()).removesuffix("#"): section for section in page.select("section:has(> h3)")}


def test_every_answer_is_short_and_leads_into_the_course(built_book: Book) -> None:
    found = answers(parsed(built_book.html / "book" / "faq.html"))
    assert len(found) > 35
    for question, section in found.items():
        links = [link["href"] for link in section.select("p a[href]")]
        assert any(re.match(r"(\.\./notebooks/\w+|\w+)\.html", link) for link in links), f"{question} leads nowhere"
        length = len(words(section.get_text()).split())
        assert length < 180, f"{question} is answered in {length} words"


def test_answers_quote_measured_numbers_from_the_chapters() -> None:
    """What depends on training is glued: a number with decimals beside a unit of measurement is not typed."""
    source = (ROOT / "book" / "faq.md").read_text(encoding="utf-8")
    prose = re.sub(r"\{glue:text\}`[^`]*`|`[^`]*`|\$[^$]*\$|\(\d+\.\d+\)", "", source)
    known = {"9.0 to 11.2 %", "0.2 nats", "86.5 %"}  # the data's and the Gaussian's, tested elsewhere
    for fact in known:
        prose = prose.replace(fact, "")
    typed = re.findall(r"\d+\.\d+ ?(?:%|nats)", prose)
    assert not typed, f"typed by hand: {typed}"
