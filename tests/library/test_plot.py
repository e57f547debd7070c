"""Figures show each image where they say they do."""

import numpy as np
import pytest
import torch
from toys import plain, texts

from cvae_lib import plot

pytestmark = pytest.mark.usefixtures("close_figures")


def test_tile_puts_images_row_by_row_with_white_between_them_and_after_the_last():
    images = torch.rand(5, 9)
    picture = plot.tile(images, columns=3, gap=2).numpy()
    assert picture.shape == (2 * 3 + 2, 3 * 3 + 2 * 2)
    for index, image in enumerate(images.numpy().reshape(-1, 3, 3)):
        top, left = 5 * (index // 3), 5 * (index % 3)
        np.testing.assert_array_equal(picture[top : top + 3, left : left + 3], image)
        picture[top : top + 3, left : left + 3] = 1
    assert (picture == 1).all()


@pytest.mark.parametrize(("shape", "columns"), [((4, 8), 2), ((9,), 2), ((2, 2, 9), 2), ((4, 9), 0)])
def test_tile_takes_flat_square_images(shape, columns):
    with pytest.raises(ValueError, match=r"square images and at least 1 column; got \("):
        plot.tile(torch.zeros(shape), columns)


def test_labels_of_rows_and_columns_stand_at_the_middle_of_their_images():
    figure = plot.show_images(plain(torch.arange(6) / 6), 3, ["a", "b"], ["x", "y", "z"])
    (axes,) = figure.axes
    picture = axes.images[0].get_array()
    middles = picture[np.ix_(axes.get_yticks().astype(int), axes.get_xticks().astype(int))]
    np.testing.assert_allclose(middles, np.arange(6).reshape(2, 3) / 6, rtol=1e-6)
    assert (texts(axes.get_yticklabels()), texts(axes.get_xticklabels())) == (["a", "b"], ["x", "y", "z"])
    assert axes.images[0].get_clim() == (0, 1)  # the same grey in every figure
