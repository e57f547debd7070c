"""Experiments that take too long for a notebook; `registry` names them, and their results come with the package."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cvae_lib.checks import check_known

RESULTS = Path(__file__).parents[1] / "results"
Row = dict[str, Any]


def run_missing(name: str, settings: Iterable[Row], run: Callable[..., Row], folder: Path = RESULTS) -> None:
    """Run an experiment under every setting that has no stored row yet, and store each row as soon as it is there.

    So a run that was cut off goes on where it stopped. Delete the file to begin anew.

    Args:
        name: the rows stand in NAME.json, in the order of the settings.
        settings: keyword arguments of run, one dictionary for each row.
        run: returns what it found as another dictionary, which is joined to the setting.
        folder: where the file is.
    """
    settings = list(settings)
    file = folder / f"{name}.json"
    rows: list[Row] = json.loads(file.read_text())["rows"] if file.is_file() else []
    found = {_key(row, settings[0]): row for row in rows}
    for setting in settings:
        key = _key(setting, setting)
        if key not in found:
            found[key] = setting | run(**setting)
            kept = [found[_key(other, other)] for other in settings if _key(other, other) in found]
            store_results(name, {"rows": kept}, folder)


def _key(row: Row, names: Iterable[str]) -> str:
    """The part of a row that says under which setting it was found."""
    return json.dumps({name: row[name] for name in names})


def store_results(name: str, results: Row, folder: Path = RESULTS) -> None:
    """Write what an experiment found as NAME.json; a write that is cut off leaves the old file whole."""
    folder.mkdir(exist_ok=True)
    temporary = folder / f"{name}.json.tmp"
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(temporary, folder / f"{name}.json")


def stored_results(name: str) -> Row:
    """What an experiment found when it was last run; it comes with the package.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, sorted(file.stem for file in RESULTS.glob("*.json")))
    return json.loads((RESULTS / f"{name}.json").read_text())  # type: ignore[no-any-return]
