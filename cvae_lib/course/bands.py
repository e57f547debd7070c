"""Numbers that training must land on: each measured value is held to a band, and the book quotes the value."""

import tomllib
from pathlib import Path

from cvae_lib.course.dataset import dataset_name

BANDS = Path(__file__).parent / "bands.toml"
_GLUE = "application/papermill.record/"


def check(name: str, value: float) -> None:
    """Print a measured value beside the band it must fall in, and raise when it does not.

    The bands stand in `bands.toml`, one table per data set. In a notebook the value is also stored under
    its name in a form that the book's pages quote (`glue`), so that prose never repeats it by hand.

    Args:
        name: key of the band, such as "vae.train_loss".
        value: what was measured.

    Raises:
        KeyError: the data set in use has no band of that name.
        AssertionError: the value is outside its band.
    """
    dataset = dataset_name()
    bands = tomllib.loads(BANDS.read_text())[dataset]
    if name not in bands:
        raise KeyError(f"{BANDS.name} has no band {name!r} for {dataset}.")
    low, high = bands[name]
    value = float(value)
    line = f"{name} {value:.2f} in [{low:g}, {high:g}]"
    if not low <= value <= high:
        raise AssertionError(f"{name} is {value:.2f}, outside the band [{low:g}, {high:g}] for {dataset}.")
    print(line)
    _glue(name, value, line)


def _glue(name: str, value: float, line: str) -> None:
    """Store value in the notebook the way myst-nb's `glue` does, without needing myst-nb (Colab has none)."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is None:
        return
    # The comment is for nbval: it tells this record from any other number, so that only such records are masked.
    record = {_GLUE + "text/plain": f"{value!r}  # {line}"}
    display(record, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": _GLUE}})
