"""`python -m cvae_lib weights [NAME ...]` trains the named recipes, all of them without a name."""

import argparse

from cvae_lib.data import DataError
from cvae_lib.train import RECIPES, make_weights


def main() -> None:
    """Parse the command line and run it; a wrong name ends in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m cvae_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    weights = commands.add_parser("weights", help="train recipes and store their weights")
    weights.add_argument("names", nargs="*", metavar="NAME", help=f"known: {', '.join(RECIPES)}")
    for name in parser.parse_args().names or RECIPES:
        try:
            make_weights(name)
        except (ValueError, DataError) as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
