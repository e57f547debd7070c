"""How long a chapter is: words, cells, columns and minutes. `python tests/notebooks/counts.py` prints the table."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WORDS_PER_MINUTE = 120
SECONDS_PER_SIGHT = 10  # a figure or a formula on a line of its own

FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]+?\$", re.DOTALL)
NOT_PROSE = re.compile(r"```.*?```|<[^>]+>|(?<=\])\([^)]*\)|^\|[-| :]+\|$", re.DOTALL | re.MULTILINE)
MINUTES = re.compile(r"^\*\*Time\.\*\* (\d+) minutes", re.MULTILINE)


class Counts(NamedTuple):
    """One notebook: prose without formulas and code, cells, what a reader looks at, and the time that it states."""

    words: int
    cells: int
    figures: int
    formulas: int
    seconds: float  # to run it, as `notebooks/run.py` measured
    stated: int  # minutes, in its first cells; 0 if it states none

    @property
    def minutes(self) -> float:
        """To read and run it."""
        sights = self.figures + self.formulas
        return self.words / WORDS_PER_MINUTE + (sights * SECONDS_PER_SIGHT + self.seconds) / 60


def read(path: Path) -> dict[str, Any]:
    """A notebook as it is stored."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def prose(path: Path) -> str:
    """The text of a notebook as a reader reads it aloud: no formulas, code, addresses or tags."""
    texts = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    return NOT_PROSE.sub(" ", FORMULA.sub(" ", "\n\n".join(texts)))


def counts(path: Path) -> Counts:
    """Count one notebook."""
    notebook = read(path)
    markdown = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    stated = MINUTES.search(markdown)
    return Counts(
        words=len(re.findall(r"[^\W_]+(?:['’.,-][^\W_]+)*", prose(path))),
        cells=len(notebook["cells"]),
        figures=sum("image/png" in output.get("data", {}) for output in outputs),
        formulas=markdown.count("$$") // 2,
        seconds=notebook["metadata"].get("seconds", 0),
        stated=int(stated[1]) if stated else 0,
    )


def is_core(path: Path) -> bool:
    """Whether a notebook is a chapter of the route; deep dives have a letter behind their number."""
    return path.name[:3].endswith("_")


def wide_lines(path: Path) -> list[str]:
    """Lines of code over 72 columns and printed lines over 44, which a phone cannot show in one line."""
    found = []
    for at, cell in enumerate(read(path)["cells"]):
        if cell["cell_type"] == "code":
            printed = [line for output in cell["outputs"] for line in "".join(output.get("text", "")).splitlines()]
            code = "".join(cell["source"])
            found += [f"cell {at}: {line}" for line in code.splitlines() if len(line) > 72]
            if "getsource" not in code:  # the library's own code, which the page wraps
                found += [f"output of cell {at}: {line}" for line in printed if len(line) > 44]
    return found


def long_sentences(path: Path, limit: int = 30) -> list[str]:
    """Sentences of the prose with more words than the limit; a formula counts as one word."""
    texts = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    text = NOT_PROSE.sub(" ", FORMULA.sub("x", re.sub(r"\$\$.+?\$\$", "\n\n", "\n\n".join(texts), flags=re.DOTALL)))
    parts = re.split(r"(?<=[.?!:;])[\s*\"”)]+|\n\s*\n|\n\s*(?:[-*|#>]|\d+\.)\s", text)
    return [" ".join(part.split()) for part in parts if len(part.split()) > limit]


if __name__ == "__main__":
    total = dict.fromkeys((True, False), 0.0)
    print(f"{'notebook':38} words cells minutes stated wide long")
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        found = counts(file)
        total[is_core(file)] += found.words
        wide, long = len(wide_lines(file)), len(long_sentences(file))
        print(f"{file.stem:38} {found.words:5} {found.cells:5} {found.minutes:7.0f} {found.stated:6} {wide:4} {long:4}")
    print(f"core {total[True]:,.0f} words, deep {total[False]:,.0f} words")
