"""The environment says which data set the chapters run on."""

import pytest

from cvae_lib.course import dataset_name


def test_an_unknown_data_set_lists_the_known_ones(monkeypatch):
    for name in ("cifar", "kmnist"):
        monkeypatch.setenv("CVAE_DATASET", name)
        with pytest.raises(ValueError, match=f"CVAE_DATASET is '{name}'; known data sets: mnist, digits"):
            dataset_name()


@pytest.mark.parametrize(("chosen", "name"), [(None, "mnist"), ("mnist", "mnist"), ("digits", "digits")])
def test_the_environment_chooses_the_data_set(monkeypatch, chosen, name):
    monkeypatch.delenv("CVAE_DATASET", raising=False)
    if chosen:
        monkeypatch.setenv("CVAE_DATASET", chosen)
    assert dataset_name() == name
