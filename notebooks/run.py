"""Execute notebooks in place, on MNIST, and say how long each took.

    python notebooks/run.py [NOTEBOOK ...]        all of them without a name

What changes from run to run without a reason (widget state, time stamps of cells) is not stored. A notebook
that fails keeps its old outputs.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from cvae_lib.course import dataset_name

HERE = Path(__file__).parent


def run(path: Path) -> float:
    """Execute one notebook in its own folder, store it, and return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        record_timing=False,
    )
    client.execute()
    seconds = time.perf_counter() - start
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "seconds": round(seconds),
    }
    nbformat.write(notebook, path)
    return seconds


def main() -> None:
    """Run what the command line names."""
    if dataset_name() != "mnist":
        sys.exit("The committed outputs come from MNIST: leave CVAE_DATASET unset.")
    os.environ["TQDM_DISABLE"] = "1"  # progress bars are for people who watch, not for stored outputs
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        print(f"{path.name}: {run(path):.0f} s", flush=True)


if __name__ == "__main__":
    main()
