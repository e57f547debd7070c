"""What training can do to the images of a batch, afresh in every epoch.

Each takes and returns images (images, pixels), and draws from `generator`, or from torch's own state without one.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from cvae_lib.checks import look_up


def binarise(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Every pixel becomes 1 with its grey value as probability, else 0.

    Equations: (9.13)
    """
    return torch.bernoulli(images, generator=generator)


def shift(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Every image moves by -1, 0 or 1 pixel down and across; what comes in at the edge is black."""
    side = math.isqrt(images.shape[1])
    places = pad(images.reshape(-1, side, side), (1, 1, 1, 1)).unfold(1, side, 1).unfold(2, side, 1)
    down, across = torch.randint(3, (2, len(images)), generator=generator, device=images.device)
    return places[torch.arange(len(images), device=images.device), down, across].flatten(1)


def jitter(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Every image is turned by up to 10 degrees, scaled and sheared by up to 10 %, and moved by up to one pixel.

    Values between pixels are interpolated, and stay in [0, 1].
    """
    side, n = math.isqrt(images.shape[1]), len(images)
    uniform = 2 * torch.rand(6, n, generator=generator, device=images.device) - 1
    turn, taller, wider, shear, down, across = uniform
    angle, zero = turn * (math.pi / 18), torch.zeros_like(turn)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).unflatten(1, (2, 2))
    stretch = torch.stack([1 + 0.1 * wider, 0.1 * shear, zero, 1 + 0.1 * taller], 1).unflatten(1, (2, 2))
    move = torch.stack([across, down], 1)[..., None] * (2 / side)  # grid coordinates run from -1 to 1
    grid = affine_grid(torch.cat([rotation @ stretch, move], 2), [n, 1, side, side], align_corners=False)
    moved = grid_sample(images.reshape(n, 1, side, side), grid, align_corners=False)
    return moved.flatten(1).clamp(0, 1)


TRANSFORMS: dict[str, Callable[..., Tensor]] = {"binarise": binarise, "shift": shift, "jitter": jitter}
"""The transforms by name, for recipes."""


def chain(names: Sequence[str]) -> Callable[..., Tensor]:
    """One transform after the other, by their names.

    Raises:
        ValueError: there is no transform of that name.
    """
    transforms = [look_up("transform", name, TRANSFORMS) for name in names]

    def all_of_them(images: Tensor, generator: Generator | None = None) -> Tensor:
        for transform in transforms:
            images = transform(images, generator=generator)
        return images

    return all_of_them
