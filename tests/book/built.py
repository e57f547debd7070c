"""The built book: what the build gives, where its pages are, how to read them and how to open them in a browser."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# Over file:// axe would try to fetch the style sheets again, which browsers forbid there.
AXE = {"preload": False, "rules": {"label-content-name-mismatch": {"enabled": True}}}
COLOURS = {"preload": False, "runOnly": ["color-contrast"]}


class Book(NamedTuple):
    """A built book: its folder, what the build printed, and whether it succeeded."""

    html: Path
    output: str
    succeeded: bool


def pages() -> list[str]:
    """The address of every page that `_toc.yml` asks for, relative to the built book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [f"{name}.html" for name in [toc["root"], *chapters]]


def build(folder: Path) -> Book:
    """Build the book in a folder, as `make book` does."""
    command = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    options = ["build", str(ROOT), "--path-output", str(folder), "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [sys.executable, "-c", command, *options], capture_output=True, text=True, encoding="utf-8", check=False
    )
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    return Book(folder / "_build" / "html", output, done.returncode == 0)


@cache
def parsed(page: Path) -> BeautifulSoup:
    """A page to search in."""
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def opened(browser: Browser, address: str, home: str, viewport: dict[str, int]) -> tuple[Page, list[str]]:
    """A page with its formulas typeset, and a list of what it complains about or asks other hosts for."""
    page = browser.new_page(viewport=viewport, color_scheme="light")
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda line: line.type == "error" and complaints.append(f"console: {line.text}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((home, "data:", "blob:")) or complaints.append(f"asks for {request.url}")
        ),
    )
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
    return page, complaints


def sideways(page: Page) -> int:
    """How many pixels the page, not a box in it, can be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
