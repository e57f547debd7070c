"""Transforms move images as they say, each image in its own way, and keep pixels in [0, 1]."""

import math

import pytest
import torch
from torch.nn import functional as F

from cvae_lib import load
from cvae_lib.course.transforms import TRANSFORMS, chain, jitter, shift


@pytest.fixture
def digits() -> torch.Tensor:
    torch.manual_seed(0)
    return load("digits", "test").images


@pytest.mark.parametrize("name", TRANSFORMS)
def test_shape_range_and_the_callers_images_are_kept(name, digits):
    before = digits.clone()
    moved = TRANSFORMS[name](digits)
    assert moved.shape == digits.shape
    assert 0 <= moved.min() <= moved.max() <= 1
    assert torch.equal(digits, before)
    assert not torch.equal(moved, TRANSFORMS[name](digits))


@pytest.mark.parametrize("transform", [*TRANSFORMS.values(), chain(["shift", "jitter", "binarise"])])
def test_draws_come_from_the_generator_that_is_passed(transform, digits):
    """The same seed moves the images alike, whatever torch's own state, which is left alone."""
    results = []
    for seed in (1, 1, 2):
        torch.rand(3)
        state = torch.get_rng_state()
        results.append(transform(digits, generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_shift_is_one_of_nine_all_equally_likely():
    """One bright pixel in the middle of 900 images tells where each went."""
    images = torch.zeros(900, 7, 7)
    images[:, 3, 3] = 1
    torch.manual_seed(0)
    counts = shift(images.flatten(1)).unflatten(1, (7, 7)).sum(0)
    assert (counts[2:5, 2:5] > 60).all()  # 100 expected, four standard deviations are 38
    assert counts[2:5, 2:5].sum() == 900


def test_what_a_shift_brings_in_is_black():
    white = shift(torch.ones(200, 49)).unflatten(1, (7, 7))
    assert (white[:, 1:-1, 1:-1] == 1).all()
    assert 0 < white[:, 0].mean() < 1


def test_jitter_is_an_affine_map_within_its_bounds():
    """The map of each image is recovered from where it takes three blobs: centre, right, below."""
    side, offset = 41, 10
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")

    def blob(row, column):
        return (-((rows - row) ** 2 + (columns - column) ** 2) / 8).exp()

    centre = side // 2
    maps = []
    for row, column in ((centre, centre), (centre, centre + offset), (centre + offset, centre)):
        torch.manual_seed(0)  # the same maps for each blob
        moved = jitter(blob(row, column).flatten().expand(300, -1)).unflatten(1, (side, side))
        total = moved.sum((1, 2))
        maps.append(torch.stack([(moved * columns).sum((1, 2)) / total, (moved * rows).sum((1, 2)) / total], 1))
    middle, right, below = maps
    assert ((middle - centre).norm(dim=1) < math.sqrt(2) * 1.2).all()
    assert (middle - centre).abs().amax(0).min() > 0.8
    linear = torch.stack([right - middle, below - middle], 2) / offset  # what the map does to a vector
    inverse = torch.linalg.inv(linear)  # grid_sample looks up where a pixel comes from
    angles = torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0]).rad2deg()
    assert angles.abs().max() < 10.5
    assert angles.max() > 8
    assert angles.min() < -8
    rotation = torch.stack(
        [angles.deg2rad().cos(), -angles.deg2rad().sin(), angles.deg2rad().sin(), angles.deg2rad().cos()], 1
    ).unflatten(1, (2, 2))
    stretch = rotation.mT @ inverse
    assert stretch[:, 0, 0].sub(1).abs().max() < 0.11
    assert stretch[:, 1, 1].sub(1).abs().max() < 0.11
    assert stretch[:, 0, 1].abs().max() < 0.11
    assert stretch[:, [0, 1], [0, 1]].sub(1).abs().amax(0).min() > 0.08


def test_a_chain_does_one_after_the_other(digits):
    moved = chain(("shift", "binarise"))(digits)
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(chain(())(digits), digits)
    grey = chain(("jitter",))(digits)
    assert 0.5 < F.cosine_similarity(grey, digits).mean() < 0.99
    with pytest.raises(ValueError, match="Unknown transform 'blur'; known: binarise, shift, jitter"):
        chain(("shift", "blur"))
