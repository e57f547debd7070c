"""Figures of the chapters show each number and code where they say they do."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import EllipseCollection, PathCollection
from scipy import stats
from toys import plain, texts

from cvae_lib import Epoch, History
from cvae_lib.course import figures

pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.mark.parametrize("held_out", [True, False])
def test_the_history_is_drawn_as_it_is_and_told_apart_without_colour(held_out):
    after = (6.0, 7.0, 13.0) if held_out else (None, None, None)
    history = History()
    history += [Epoch(1, 5.0, 3.0, 8.0, *after, 0.1), Epoch(2, 4.0, 3.5, 7.5, *after, 0.1)]
    for axes, name in zip(figures.show_history(history).axes, ("loss", "reconstruction", "kl"), strict=True):
        lines = {line.get_linestyle(): line.get_ydata().tolist() for line in axes.lines}
        expected = {"-": history.column(name)} | ({"--": history.column(f"held_out_{name}")} if held_out else {})
        assert lines == expected


def test_a_history_without_an_epoch_can_be_drawn():
    """What `fit` returns when it is interrupted at once."""
    assert len(figures.show_history(History()).axes) == 3


def test_the_plane_shows_each_code_at_its_coordinates():
    """An image whose grey tells its code, found again under the ticks that name the code."""
    values = torch.linspace(-2, 2, 5)
    codes = figures.plane(values)
    assert codes[0].tolist() == [-2, 2]  # top left
    assert codes[-1].tolist() == [2, -2]

    figure = figures.show_plane(plain(codes @ torch.tensor([0.1, 0.01])), values)
    (axes,) = figure.axes
    picture = axes.images[0].get_array()
    for x, z1 in zip(axes.get_xticks(), texts(axes.get_xticklabels()), strict=True):
        for y, z2 in zip(axes.get_yticks(), texts(axes.get_yticklabels()), strict=True):
            assert picture[int(y), int(x)] == pytest.approx(0.1 * float(z1) + 0.01 * float(z2), abs=1e-6)


def test_circles_name_the_share_of_the_prior_inside():
    """(4.2): |z|^2 has a chi-squared distribution with two degrees of freedom."""
    axes = plt.figure().subplots()
    figures.prior_circles(axes, radii=(0.5, 1, 2, 3))
    assert [circle.radius for circle in axes.patches] == [0.5, 1, 2, 3]
    assert texts(axes.texts) == [f"{100 * stats.chi2(2).cdf(radius**2):.1f} %" for radius in (0.5, 1, 2, 3)]


def test_codes_stand_at_their_place_each_as_its_digit():
    codes, labels = torch.randn(20, 2, requires_grad=True), torch.arange(20) % 3
    (axes,) = figures.show_codes(codes, labels).axes
    drawn = [points for points in axes.collections if isinstance(points, PathCollection)]
    for label, points in enumerate(drawn):
        np.testing.assert_allclose(points.get_offsets(), codes.detach()[labels == label])
    shapes = [points.get_paths()[0].vertices.shape for points in drawn]
    assert len(set(shapes)) == 3  # the outlines of 0, 1 and 2


def test_ellipses_hold_the_share_of_the_posterior_that_is_promised():
    """(4.3) counted with 100,000 draws, in one figure of two panels; the standard error of the share is 0.1 %."""
    rng = np.random.default_rng(0)
    left, right = plt.figure().subplots(1, 2)
    code, sigma = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 2.0]])
    assert figures.show_codes(code, torch.tensor([7]), sigmas=sigma, axes=right) is left.figure
    assert not left.collections
    (ellipse,) = (item for item in right.collections if isinstance(item, EllipseCollection))
    axes_of_ellipse = np.array([ellipse.get_widths()[0], ellipse.get_heights()[0]]) / 2
    draws = rng.normal(code[0], sigma[0], size=(100_000, 2))
    inside = (((draws - ellipse.get_offsets()) / axes_of_ellipse) ** 2).sum(1) < 1
    assert inside.mean() == pytest.approx(0.865, abs=0.004)
    (digit,) = (item for item in right.collections if isinstance(item, PathCollection))
    assert digit.get_offsets().tolist() == code.tolist()
