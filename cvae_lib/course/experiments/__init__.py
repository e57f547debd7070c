"""Experiments that take too long for a notebook; `registry` names them, and their results come with the package."""

import json
from pathlib import Path
from typing import Any

from cvae_lib.model import check_known

RESULTS = Path(__file__).parents[1] / "results"


def store_results(name: str, results: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write what an experiment found as NAME.json."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def stored_results(name: str) -> dict[str, Any]:
    """What an experiment found when it was last run; it comes with the package.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, sorted(file.stem for file in RESULTS.glob("*.json")))
    return json.loads((RESULTS / f"{name}.json").read_text())  # type: ignore[no-any-return]
