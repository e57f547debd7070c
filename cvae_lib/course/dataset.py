"""Which data set the chapters run on."""

import os

DATASETS = ("mnist", "digits")


def dataset_name() -> str:
    """The data set the course runs on: "mnist", or what the environment variable CVAE_DATASET names.

    Raises:
        ValueError: CVAE_DATASET names a data set that does not exist.
    """
    name = os.environ.get("CVAE_DATASET", "mnist")
    if name not in DATASETS:
        raise ValueError(f"CVAE_DATASET is {name!r}; known data sets: {', '.join(DATASETS)}.")
    return name
