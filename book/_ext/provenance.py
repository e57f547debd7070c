"""Where data and weights come from, read from the files that the library itself relies on.

```{data-files} MNIST     the files of a data set with the sizes and checksums that `cvae_lib.data` asks for
```
```{trained-weights}      every set of weights in `cvae_lib/weights`: recipe, data, seeds, final figures, seconds
```
"""

import ast
import hashlib
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def data_files(data: Path, constant: str) -> dict[str, tuple[str, int]]:
    """SHA-256 and size in bytes by file name: a constant such as MNIST_FILES in the source of `cvae_lib.data`."""
    for node in ast.parse(data.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == constant:
            return ast.literal_eval(node.value)
    raise ValueError(f"{data} has no {constant}")


def over_seeds(log: dict[str, Any], *columns: str) -> str:
    """Mean and standard deviation over the seeds of the last epoch's value; columns add up."""
    return spread([sum(run["epochs"][-1][column] for column in columns) for run in log["runs"]], 2)


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    around = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{around}"


def at_least(bound: dict[str, Any]) -> str:
    """The importance-weighted bound on the whole test set, with its standard error over the images."""
    return (
        f"at least {bound['mean']:.2f} nats, importance-weighted with K = {bound['num_samples']:,}; "
        f"standard error over the images {bound['standard_error']:.2f}"
    )


def shipped(recipe: dict[str, Any], seed: int) -> str:
    """Which weights come with the package."""
    if recipe["every_seed"]:
        return f"all ship, those of seed {seed} under the plain name"
    return f"those of seed {seed} are the ones that ship"


def accuracy(log: dict[str, Any]) -> dict[str, str]:
    """For each bound what the model gets right as a classifier, in per cent, for every K in the log."""
    found = [run["accuracy"] for run in log["runs"] if "accuracy" in run]
    said = {}
    for bound in found[0] if found else ():
        values = {K: spread([100 * run[bound][K] for run in found], 2) for K in found[0][bound]}
        said[bound.replace("_", " ")] = "; ".join(f"{value} % with K = {K}" for K, value in values.items())
    return said


def call(name: str, arguments: dict[str, Any]) -> str:
    """A call as one would write it."""
    shown = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def facts(folder: Path) -> dict[str, str | nodes.literal]:
    """What there is to know about one set of weights."""
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    recipe = log["recipe"]
    weights = (folder / "model.safetensors").read_bytes()
    seconds = [sum(epoch["seconds"] for epoch in run["epochs"]) for run in log["runs"]]
    bound = log.get("stored_weights_test_log_likelihood")
    return {
        "model": nodes.literal("", call("CVAE", recipe["model"])),
        "training": nodes.literal("", call("fit", recipe["fit"])),
        "trained on": log["data"][0],
        "tested on": log["data"][1],
        "seeds": f"{', '.join(map(str, recipe['seeds']))}; {shipped(recipe, log['shipped_seed'])}",
        "training loss": f"{over_seeds(log, 'loss')} nats",
        "test reconstruction": f"{over_seeds(log, 'held_out_reconstruction')} nats",
        "test KL": f"{over_seeds(log, 'held_out_kl')} nats",
        "test loss": f"{over_seeds(log, 'held_out_loss')} nats",
        "test loss as shipped": f"{log['stored_weights_test_loss']:.2f} nats, one seed, rounded to 16 bits",
        **({"test log-likelihood as shipped": at_least(bound)} if bound else {}),
        **{f"accuracy by {name}": said for name, said in accuracy(log).items()},
        "time": f"{spread(seconds, 0)} s for one seed, on {log['machine']}",
        "file": f"model.safetensors, {len(weights):,} bytes",
        "SHA-256": nodes.literal("", hashlib.sha256(weights).hexdigest()),
    }


def table(rows: list[list[str | nodes.Node]], head: list[str]) -> nodes.table:
    """Two columns, a name and what there is to say about it, a paragraph each."""

    def row(cells: list[str | nodes.Node]) -> nodes.row:
        name, *said = (nodes.paragraph("", "", nodes.Text(cell) if isinstance(cell, str) else cell) for cell in cells)
        return nodes.row("", nodes.entry("", name), nodes.entry("", *said))

    columns = [nodes.colspec(colwidth=1, stub=1), nodes.colspec(colwidth=3)]
    body = nodes.tbody("", *map(row, rows))
    return nodes.table(
        "", nodes.tgroup("", *columns, nodes.thead("", row(list(head))), body, cols=2), classes=["facts"]
    )


class DataFiles(SphinxDirective):
    """The files that must be there; the argument names the data set."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One row a file."""
        self.env.note_dependency("cvae_lib/data.py")
        files = data_files(Path(self.env.srcdir) / "cvae_lib" / "data.py", f"{self.arguments[0]}_FILES")
        rows = [[name, f"{size:,} bytes", nodes.literal("", digest)] for name, (digest, size) in files.items()]
        return [table(rows, ["file", "size and SHA-256"])]


class TrainedWeights(SphinxDirective):
    """Every set of weights that comes with the package."""

    def run(self) -> list[nodes.Node]:
        """A section each."""
        self.env.note_reread()  # in every build: there may be new weights
        found = []
        for log in sorted((Path(self.env.srcdir) / "cvae_lib" / "weights").glob("*/training.json")):
            name = log.parent.name
            section = nodes.section("", nodes.title("", "", nodes.literal("", name)), ids=[f"weights-{name}"], names=[])
            section += table([list(row) for row in facts(log.parent).items()], ["what", "value"])
            found.append(section)
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls for an extension."""
    app.add_directive("data-files", DataFiles)
    app.add_directive("trained-weights", TrainedWeights)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
