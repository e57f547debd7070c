"""Every long experiment by its name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cvae_lib.course.experiments import RESULTS, store_results
from cvae_lib.course.experiments.attacks import opponent
from cvae_lib.course.experiments.few_labels import few_labels
from cvae_lib.course.experiments.ladder import ladder
from cvae_lib.model import check_known

EXPERIMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ladder": ladder,
    "few-labels": few_labels,
    "opponent": opponent,
    "few-labels-5000-steps": partial(few_labels, labels_per_class=(10, 100, 1000), steps=5000),
}


def make_results(name: str, folder: Path = RESULTS) -> None:
    """Run an experiment by its name, and store what it returns.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, EXPERIMENTS)
    store_results(name, EXPERIMENTS[name](), folder)
