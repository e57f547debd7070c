"""The book, built once in a test run for all tests that look at its pages."""

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]


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


@functools.cache
def _build(folder: Path) -> Book:
    command = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    options = ["build", str(ROOT), "--path-output", str(folder), "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [sys.executable, "-c", command, *options], capture_output=True, text=True, encoding="utf-8", check=False
    )
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    return Book(folder / "_build" / "html", output, done.returncode == 0)


@pytest.fixture(scope="session", name="built_book")
def _built_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return _build(tmp_path_factory.getbasetemp() / "book")
