"""`python -m cvae_lib.course weights [NAME ...]` trains the named recipes, all of them without a name.

`python -m cvae_lib.course results [NAME ...]` runs the named long experiments and stores what they find.

`python -m cvae_lib.course export FOLDER` writes what the book's pages run into FOLDER.
"""

import argparse
from pathlib import Path

from cvae_lib.course.experiments.registry import EXPERIMENTS, SWEEPS, make_results
from cvae_lib.course.export import EXPORTED, export
from cvae_lib.course.recipes import RECIPES
from cvae_lib.course.weights import make_weights
from cvae_lib.data import DataError


def main() -> None:
    """Parse the command line and run it; a wrong name ends in one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m cvae_lib.course", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*EXPERIMENTS, *SWEEPS]
    commands = parser.add_subparsers(dest="command", required=True)
    weights = commands.add_parser("weights", help="train recipes and store their weights")
    weights.add_argument("names", nargs="*", metavar="NAME", help=f"known: {', '.join(RECIPES)}")
    results = commands.add_parser("results", help="run experiments and store their results")
    results.add_argument("names", nargs="*", metavar="NAME", help=f"known: {', '.join([*EXPERIMENTS, *SWEEPS])}")
    commands.add_parser("export", help="write what the book's pages run").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "export":
            for name in EXPORTED:
                export(name, arguments.folder)
        elif arguments.command == "results":
            for name in arguments.names or known:
                make_results(name)
        else:
            for name in arguments.names or RECIPES:
                make_weights(name)
    except (OSError, ValueError, DataError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
