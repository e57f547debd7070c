"""The book builds without a warning; its links, its alt texts and its notebooks keep the rules."""

import copy
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built import ROOT, Book, pages, parsed

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a browser fetches without being asked, by element and attribute.
LOADED = {
    **dict.fromkeys(["img", "source"], ("src", "srcset")),
    **dict.fromkeys(["script", "iframe", "embed", "audio", "video", "track", "input"], ("src",)),
    "link": ("href",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}


@cache
def places(page: Path) -> set[str]:
    """What a link can lead to inside a page."""
    return {place[name] for name in ("id", "name") for place in parsed(page).find_all(attrs={name: True})}


def html_pages(folder: Path) -> list[Path]:
    """All pages of a built book; `_static` holds parts of pages, no pages."""
    found = sorted(page for page in folder.rglob("*.html") if "_static" not in page.parts)
    assert found, f"no page in {folder}"
    return found


# ---- The build ----


def test_the_book_builds_without_a_warning(built_book: Book) -> None:
    warnings = [line for line in built_book.output.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
    assert not warnings, "the build warns:\n" + "\n".join(warnings)
    assert built_book.succeeded, built_book.output[-3000:]
    assert (built_book.html / "index.html").is_file(), "the build says nothing, but there is no index.html"


def test_every_chapter_has_a_page(built_book: Book) -> None:
    missing = [page for page in pages() if not (built_book.html / page).is_file()]
    assert not missing, f"in _toc.yml, but not built: {missing}"
    forgotten = {f"notebooks/{path.stem}.html" for path in NOTEBOOKS} - set(pages())
    assert not forgotten, f"not in _toc.yml: {sorted(forgotten)}"


# ---- Links ----


def broken_links(folder: Path) -> list[str]:
    """Every link inside the book that leads to no file, or to a place that its page does not have."""
    faults = []
    for page in html_pages(folder):
        for link in parsed(page).find_all("a", href=True):
            address = urlsplit(link["href"])
            if address.scheme or address.netloc:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page
            where = f"{page.relative_to(folder)}: {link['href']}"
            if not target.is_file():
                faults.append(f"{where} leads to no file")
            elif address.fragment and target.suffix == ".html" and unquote(address.fragment) not in places(target):
                faults.append(f"{where}: that page has no place of this name")
    return faults


def loads_from_elsewhere(folder: Path) -> list[str]:
    """Every address on another host that a browser would load by itself."""
    faults = []
    for page in html_pages(folder):
        for name, attributes in LOADED.items():
            for element in parsed(page).find_all(name):
                for attribute in attributes:
                    if re.search(r"(^|[\s,])(https?:)?//", element.get(attribute, "")):
                        faults.append(f"{page.relative_to(folder)}: <{name} {attribute}={element[attribute]!r}>")
    for sheet in sorted(folder.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s;]+)", sheet.read_text("utf-8")):
            faults.append(f"{sheet.relative_to(folder)}: {address}")
    return faults


def images_without_alt(folder: Path) -> list[str]:
    """Every image whose alt text is missing, empty or a file name."""
    return [
        f"{page.relative_to(folder)}: {image.get('src', '')[-60:]} has alt {image.get('alt')!r}"
        for page in html_pages(folder)
        for image in parsed(page).find_all("img")
        if says_nothing(image.get("alt"))
    ]


def says_nothing(alt: str | None) -> bool:
    return not (alt or "").strip() or bool(re.fullmatch(r"\S*(/\S*|\.(png|svg|jpe?g|gif|webp))", alt.strip(), re.I))


def test_every_link_inside_the_book_leads_somewhere(built_book: Book) -> None:
    faults = broken_links(built_book.html)
    assert not faults, "\n".join(faults)


def test_no_page_loads_anything_from_another_host(built_book: Book) -> None:
    faults = loads_from_elsewhere(built_book.html)
    assert not faults, "\n".join(faults)


def test_every_image_has_an_alt_text(built_book: Book) -> None:
    faults = images_without_alt(built_book.html)
    assert not faults, "\n".join(faults)


def test_the_page_checks_find_faults(tmp_path: Path) -> None:
    """Each of the checks above sees the fault it is there for, and only that."""
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1> <a href="#top">fine</a> <a href="b.html">no file</a> <a href="a.html#x">no place</a>'
        '<a href="https://example.org/">fine</a> <img src="p.png" alt="p.png"> <img src="q.png" alt="A finding.">'
        '<script src="https://cdn.example.org/x.js"></script> <img src="//example.org/r.png" alt="Another.">'
    )
    (tmp_path / "a.css").write_text("@import 'https://fonts.example.org/f.css'; p { background: url(data:,x) }")
    assert broken_links(tmp_path) == [
        "a.html: b.html leads to no file",
        "a.html: a.html#x: that page has no place of this name",
    ]
    assert [fault.split(":")[0] for fault in loads_from_elsewhere(tmp_path)] == ["a.html", "a.html", "a.css"]
    assert images_without_alt(tmp_path) == ["a.html: p.png has alt 'p.png'"]


# ---- Notation ----


def test_notation_names_things_that_exist() -> None:
    """The last column of the notation gives names in the library; each must occur there."""
    library = "\n".join(path.read_text("utf-8") for path in (ROOT / "cvae_lib").glob("*.py"))
    rows = re.findall(r"^\|.*\|([^|]*)\|$", (ROOT / "book" / "notation.md").read_text("utf-8"), re.M)
    quoted = {
        name for row in rows for code in re.findall(r"`([^`]+)`", row) for name in re.findall(r"[A-Za-z_]\w+", code)
    }
    assert len(quoted) > 20
    missing = sorted(name for name in quoted if not re.search(rf"\b{name}\b", library))
    assert not missing, f"book/notation.md names {missing}, which cvae_lib does not have"


# ---- Notebooks ----


def notebook_faults(notebook: dict, number: int) -> list[str]:
    """What a chapter owes to the rules for notebooks; `number` is the chapter's."""
    faults, counts = [], []
    cells = [(f"cell {i}", cell, "".join(cell["source"])) for i, cell in enumerate(notebook["cells"])]
    title = cells[0][2].splitlines()[0]
    if not title.startswith(f"# {number}. "):
        faults.append(f"cell 0: the title is {title!r}, not '# {number}. ...'")
    prose = "\n".join(source for _, cell, source in cells if cell["cell_type"] == "markdown")
    prose = re.sub(r"^```.*?^```", "", prose, flags=re.M | re.S)
    if len(re.findall(r"^# ", prose, re.M)) != 1:
        faults.append("there is not exactly one level-1 heading")
    for opening in ("After this chapter you can", "You need", "Time"):
        if f"**{opening}" not in cells[0][2]:
            faults.append(f"cell 0: does not say **{opening}**")
    if not any("google.colab" in source and "remove-cell" in tags(cell) for _, cell, source in cells):
        faults.append("no cell sets it up in Colab (tagged remove-cell)")
    if "widgets" in notebook["metadata"]:
        faults.append("the metadata holds widget state, which would load scripts from elsewhere")
    repeated = [tag for tag, count in Counter(re.findall(r"\\tag\{([^}]*)\}", prose)).items() if count > 1]
    if repeated:
        faults.append(f"two equations have the number {repeated}")

    for at, cell, source in cells:
        if cell["cell_type"] == "markdown":
            if re.search(r"\{(eq|ref|numref|doc|cite\S*|glue\S*)\}`|^:::|^```+\{", source, re.M):
                faults.append(f"{at}: MyST-only syntax shows raw in Colab")
            continue
        lines = [line for line in source.splitlines() if line.strip()]
        if len(lines) > 25:
            faults.append(f"{at}: {len(lines)} lines of code, 25 is the most")
        if lines:
            counts.append(cell["execution_count"])
        if "solution" in tags(cell) and not re.search(r"\b(assert|check\()", source):
            faults.append(f"{at}: the solution checks nothing")
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in tags(cell):
                faults.append(f"{at}: ends in an error, {output['ename']}")
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
            if "image/png" in output.get("data", {}) and says_nothing(alt):
                faults.append(f"{at}: a figure with alt text {alt!r}")
    if counts != list(range(1, len(counts) + 1)):
        faults.append("not executed from top to bottom in one go")
    return faults


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_the_rules(path: Path) -> None:
    faults = notebook_faults(json.loads(path.read_text(encoding="utf-8")), int(path.stem[:2]))
    assert not faults, f"{path.name}:\n" + "\n".join(faults)


def test_the_rules_find_faults() -> None:
    """A small notebook that keeps the rules, and one breach of each."""

    def code(source: str, count: int, **metadata: object) -> dict:
        return {"cell_type": "code", "source": source, "execution_count": count, "outputs": [], "metadata": metadata}

    opening = "# 7. Title\n\n**After this chapter you can**\n\n**You need**\n\n**Time**\n\n$$ a \\tag{7.1} $$"
    good = {
        "metadata": {},
        "cells": [
            {"cell_type": "markdown", "source": opening, "metadata": {}},
            code('if "google.colab" in sys.modules: pass', 1, tags=["remove-cell"]),
            code("plot()", 2, mystnb={"image": {"alt": "A finding."}}),
        ],
    }
    good["cells"][2]["outputs"] = [{"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}}]
    assert notebook_faults(good, 7) == []

    def breach(cell: int, **changes: object) -> list[str]:
        bad = copy.deepcopy(good)
        bad["cells"][cell].update(changes)
        return notebook_faults(bad, 7)

    error = {"output_type": "error", "ename": "ValueError"}
    found = [
        notebook_faults(good, 8),
        breach(0, source=opening + "\n\n# Another"),
        breach(0, source=opening.replace("**Time**", "")),
        breach(1, metadata={}),
        notebook_faults({**good, "metadata": {"widgets": {}}}, 7),
        breach(0, source=opening + "\n\n$$ b \\tag{7.1} $$"),
        breach(0, source=opening + "\n\n:::{note}\n:::"),
        breach(2, source="x = 1\n" * 26),
        breach(1, metadata={"tags": ["remove-cell", "solution"]}),
        breach(2, outputs=[error]),
        breach(2, metadata={}),
        breach(2, metadata={"mystnb": {"image": {"alt": "figure-1.png"}}}),
        breach(2, execution_count=None),
        breach(2, execution_count=5),
    ]
    assert [len(faults) for faults in found] == [1] * len(found), found
