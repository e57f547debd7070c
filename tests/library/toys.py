"""Models that nobody trained, and images of noise, the same on every call; what several tests measure on them."""

import math

import torch
from torch.nn import functional as F

from cvae_lib import CVAE, ImageSet


def noise(n: int = 70, pixels: int = 16) -> ImageSet:
    """Images of uniform noise; 70 are two batches of 32 and one of 6."""
    generator = torch.Generator().manual_seed(n)
    return ImageSet(torch.rand(n, pixels, generator=generator), torch.arange(n) % 3, "noise")


def small(num_labels: int = 0, hidden_sizes: tuple[int, ...] = (8,), **arguments) -> CVAE:
    """A model of 16 pixels with a code of two dimensions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CVAE(16, hidden_sizes, 2, num_labels, **arguments)


def spread_out(num_labels: int = 0, latent_dim: int = 2, factor: float = 3, **arguments) -> CVAE:
    """A float64 model of 6 pixels, its posteriors far from the prior and different for each image."""
    torch.manual_seed(0)
    model = CVAE(6, (8,), latent_dim, num_labels, **arguments).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(factor)
    return model


def without_width(num_labels: int) -> CVAE:
    """A model whose posterior is a point, sigma = exp(-40): its loss does not depend on the draws."""
    model = small(num_labels)
    with torch.no_grad():
        model.encoder.body.rest[-1].bias[2:] = -80
    return model


def loss_by_hand(model: CVAE, data: ImageSet) -> tuple[float, float]:
    """Reconstruction and KL of a model without width, image by image, averaged."""
    rows = []
    for x, label in zip(*data, strict=True):
        y = label if model.num_labels else None
        q = model.encode(x, y)
        image = model.decode(q.loc, y).mean
        kl = sum(
            0.5 * (mu**2 + s**2 - 2 * math.log(s) - 1) for mu, s in zip(q.loc.tolist(), q.scale.tolist(), strict=True)
        )
        rows.append((F.binary_cross_entropy(image, x, reduction="sum").item(), kl))
    reconstruction, kl = zip(*rows, strict=True)
    return sum(reconstruction) / len(rows), sum(kl) / len(rows)


def numbers(history) -> list:
    """A history without its seconds."""
    return [row[:-1] for row in history]


def mean_and_error(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over the first axis and its standard error."""
    return draws.mean(0), draws.std(0) / math.sqrt(len(draws))
