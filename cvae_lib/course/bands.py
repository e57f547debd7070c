"""Numbers that training must land on: each measured value is held to a band, and the book quotes the value."""

import math
import textwrap
import tomllib
from pathlib import Path

from cvae_lib.course.dataset import dataset_name

BANDS = Path(__file__).parent / "bands.toml"
WIDTH = 44  # characters that a phone shows in one line
_GLUE = "application/papermill.record/"


def check(name: str, value: float) -> None:
    """Say what was measured and what to expect, and raise when it lies outside its band.

    The book shows the printed lines as a card. What the value is called and its bands, one table per data set, stand in
    `bands.toml`. In a notebook the value is also stored under its name in a form that the book's pages quote (`glue`),
    so that prose never repeats it by hand.

    Args:
        name: key of the band, such as "vae.train_loss".
        value: what was measured.

    Raises:
        KeyError: the data set in use has no band of that name.
        AssertionError: the value is outside its band.
    """
    dataset = dataset_name()
    file = tomllib.loads(BANDS.read_text())
    if name not in file[dataset]:
        raise KeyError(f"{BANDS.name} has no band {name!r} for {dataset}.")
    low, about, high = file[dataset][name]
    value = float(value)
    if not low <= value <= high:
        raise AssertionError(f"{name} is {value:.2f}, outside the band [{low:g}, {high:g}] for {dataset}.")
    decimals = max(0, _places(high - low) + 1, _places(about) + 2)
    words = file["words"].get(name, name.split(".")[-1].replace("_", " "))
    print(textwrap.fill(f"{words}:", WIDTH, subsequent_indent="    "))
    print(f"  you should see about {about:,}.")
    print(f"  Here it is {value:,.{decimals}f}.")
    if name in file.get("seeds", {}):
        print(f"  Other seeds vary by {file['seeds'][name]:g}.")
    _glue(name, value)


def _places(value: float) -> int:
    """Decimals down to the first digit of a value that is not 0: 2 of 0.04, -1 of 40."""
    return -math.floor(math.log10(abs(value))) if value else 0


def _glue(name: str, value: float) -> None:
    """Store value in the notebook the way myst-nb's `glue` does, without needing myst-nb (Colab has none)."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is None:
        return
    # The comment is for nbval: it tells this record from any other number, so that only such records are masked.
    record = {_GLUE + "text/plain": f"{value!r}  # {name}"}
    display(record, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": _GLUE}})
