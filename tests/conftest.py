"""Says which data a test run uses, and keeps nbval from comparing MNIST's outputs with another data set's.

The fixtures here are for all tests.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from cvae_lib import CVAE
from cvae_lib.course import dataset_name
from cvae_lib.data import DataError, data_folder, load

ROOT = Path(__file__).parents[1]


def _choose_data() -> str:
    """Name the data set in use. Where MNIST cannot be had the tests run on the embedded digits, and say so."""
    if dataset_name() == "mnist":
        try:
            load("mnist", "test")
            load("mnist", "train")
        except DataError as error:
            if "CVAE_DATA" in os.environ:
                raise pytest.UsageError(str(error)) from error
            os.environ["CVAE_DATASET"] = "digits"  # kernels of the notebooks inherit it
            return f"embedded digits, because {error}"
        return "MNIST, 60,000 training and 10,000 test images, files checked"
    return "embedded digits, chosen by CVAE_DATASET"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The first line of a run says which data it uses; outputs that come from MNIST are compared on MNIST only."""
    print(f"Data: {_choose_data()}")
    os.environ["TQDM_DISABLE"] = "1"  # progress bars are for people; stored outputs have none
    if dataset_name() != "mnist":
        session.config.option.nbval_lax = True
        session.config.option.nbval = False


@pytest.fixture
def mnist() -> Path:
    """The folder of the MNIST files, where the run has them."""
    if dataset_name() != "mnist":
        pytest.skip("this run has no MNIST")
    return data_folder() / "MNIST" / "raw"


@pytest.fixture
def close_figures() -> Iterator[None]:
    """Leave no figure open."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def shipped() -> CVAE:
    """The weights "cvae-2d", which no test may change."""
    return CVAE.from_pretrained("cvae-2d")
