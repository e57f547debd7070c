"""Models that nobody trained and images of noise, the same on every call, and what several tests compute on them."""

import math

import numpy as np
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


def labelled() -> CVAE:
    """30 pixels, 3 labels, weights large enough for posteriors off the prior."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CVAE(30, (16, 8), 2, 3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    return model


def seven_images() -> torch.Tensor:
    """Seven grey images of 30 pixels, the first of them black and white."""
    images = torch.rand(7, 30, generator=torch.Generator().manual_seed(1))
    images[0] = images[0].round()
    return images


def one_by_one(model: CVAE, x: torch.Tensor, noise: torch.Tensor, bound: str) -> np.ndarray:
    """A plain loop over images, labels and samples, in float64, from what the networks emit."""
    body = [part.body.double() for part in (model.encoder, model.decoder)]
    table = np.zeros((len(x), model.num_labels))
    for i, image in enumerate(x.double()):
        for label in range(model.num_labels):
            y = torch.tensor([label])
            mu, log_var = body[0](image[None], y)[0].chunk(2)
            kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum()
            terms = []
            for epsilon in noise[:, i, 0].double():
                z = mu + epsilon * (log_var / 2).exp()
                log_p = -F.binary_cross_entropy(body[1](z[None], y)[0].sigmoid(), image, reduction="sum")
                log_ratio = -(z**2).sum() / 2 + (epsilon**2 + log_var).sum() / 2  # log p(z) - log q(z | x, y)
                terms.append(
                    {"elbo": log_p - kl, "reconstruction": log_p, "importance_weighted": log_p + log_ratio}[
                        bound
                    ].item()
                )
            if bound == "importance_weighted":
                table[i, label] = max(terms) + math.log(np.exp(np.array(terms) - max(terms)).mean())
            else:
                table[i, label] = np.mean(terms)
    model.float()
    return table


def plain(values: torch.Tensor, side: int = 3) -> torch.Tensor:
    """One image of a single grey for each value."""
    return values[:, None].expand(-1, side * side)


def texts(ticks) -> list[str]:
    """What stands at the ticks of an axis."""
    return [tick.get_text() for tick in ticks]
