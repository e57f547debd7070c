"""Equations of chapters 8 and 10 that the course room computes, against scipy and torch's mixtures."""

import re

import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from cvae_lib.course.figures import prior_circles
from cvae_lib.course.weights import ensemble_accuracy


@pytest.mark.usefixtures("close_figures")
def test_outside_of_a_circle_lies_what_a_chi_square_says() -> None:
    """(8.3): one minus the share that a circle is labelled with, against scipy's chi-square of two degrees."""
    axes = plt.figure().subplots()
    radii = (0.5, 1.0, 2.0, 3.0)
    prior_circles(axes, radii)
    inside = [float(re.fullmatch(r"([\d.]+) %", text.get_text())[1]) for text in axes.texts]
    outside = [100 * stats.chi2(2).sf(radius**2) for radius in radii]
    assert [100 - share for share in inside] == pytest.approx(outside, abs=0.051)  # labels have one decimal


def test_an_ensemble_is_a_mixture() -> None:
    """(10.2): labels by the averaged likelihoods are those of torch's mixture; each bound lies below the one before.

    The scores of three models of two labels; averaged scores in place of averaged likelihoods choose other labels.
    """
    torch.manual_seed(0)
    x = 3 * torch.randn(400, 2)
    means, widths = 2 * torch.randn(2, 3, 2), torch.tensor([[0.5], [1.0], [2.0]]).expand(2, 3, 2)
    each = Independent(Normal(means, widths), 1)  # of label and model
    log_p = each.log_prob(x[:, None, None])  # (images, labels, models)
    mixture = MixtureSameFamily(Categorical(torch.ones(2, 3)), each).log_prob(x[:, None])
    elbo = log_p - torch.rand_like(log_p)
    assert (mixture >= log_p.mean(-1) - 1e-5).all()
    assert (log_p.mean(-1) >= elbo.mean(-1)).all()
    tables = [{("elbo", 1): log_p[..., model]} for model in range(3)]
    accuracy = ensemble_accuracy(tables, mixture.argmax(-1))
    assert accuracy["average of likelihoods"]["elbo"]["1"] == 1
    assert accuracy["average of scores"]["elbo"]["1"] < 0.98
