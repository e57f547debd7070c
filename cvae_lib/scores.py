"""How well every label explains an image: bounds on log p(x | y) under all labels, for many images."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from cvae_lib.checks import check_at_least
from cvae_lib.loss import BOUNDS, CHUNK, posterior_draws
from cvae_lib.model import CVAE


def noise_of(x: Tensor, num_samples: int, latent_dim: int, seed: int = 0) -> Tensor:
    """Standard normal draws (K, images, 1, latent_dim), from each image's bytes and the seed."""
    generator = torch.Generator()
    seeds = (zlib.crc32(image.tobytes(), seed) for image in x.cpu().numpy())
    draws = [torch.randn(num_samples, latent_dim, generator=generator.manual_seed(seed)) for seed in seeds]
    return torch.stack(draws, 1)[:, :, None].to(x.device)


@torch.no_grad()
def scores_by_draws(
    model: CVAE, x: Tensor, num_samples: Sequence[int], seed: int = 0, bounds: Sequence[str] = tuple(BOUNDS)
) -> dict[tuple[str, int], Tensor]:
    """The scores of images under all labels by several bounds and for several K, from the same draws.

    Decoding is what takes the time, and here every draw is decoded once: the scores with K draws use the first K of the
    draws for the largest K. These are not quite the draws for a smaller largest K, since torch fills both otherwise.
    Images and draws are taken a few at a time, so that memory stays flat.

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, pixels).
        num_samples: the values of K, each at least 1.
        seed: of the noise, from 0 to 2**32 - 1, see `GenerativeClassifier`.
        bounds: keys of `BOUNDS`.

    Returns:
        Scores in nats, (images, labels), by (bound, K).

    Raises:
        ValueError: an argument is none of the above.

    Equations: (9.4), (9.7)
    """
    check_at_least(1, num_samples=min(num_samples, default=0))
    if model.num_labels == 0 or not 0 <= seed < 2**32:
        raise ValueError(f"Scores need labels and a seed from 0 to 2**32 - 1; got {model.num_labels=}, {seed=}.")
    labels = torch.arange(model.num_labels, device=model.device)
    # Small results kept between large passing arrays would leave holes in memory; so there is room for them first.
    tables = {(bound, K): x.new_empty(len(x), len(labels)) for K in num_samples for bound in bounds}
    size = max(1, CHUNK // (model.num_labels * model.pixels * max(num_samples)))
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        noise = noise_of(chunk, max(num_samples), model.latent_dim, seed)
        draws = posterior_draws(model, chunk[:, None], labels, noise=noise)
        for bound, K in tables:
            tables[bound, K][start : start + size] = BOUNDS[bound](draws.first(K))
    return tables
