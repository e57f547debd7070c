"""What is measured on a whole data set, image by image or on average."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cvae_lib.data import ImageSet
from cvae_lib.loss import CHUNK, ElboTerms, PosteriorDraws, posterior_draws
from cvae_lib.model import CVAE


@torch.no_grad()
def evaluate(model: CVAE, data: ImageSet, *, num_samples: int = 1, batch_size: int = 1000, seed: int = 0) -> ElboTerms:
    """Both terms of the negative ELBO in nats, averaged over a data set; scalars. Same seed, same value.

    Raises:
        ValueError: data that does not fit the model, or num_samples below 1.

    Equations: (1.14)
    """
    sums = torch.zeros(2, dtype=torch.float64, device=model.device)
    for draws in draws_of(model, data, num_samples, batch_size, seed):
        sums += torch.stack([term.sum() for term in draws.terms])
    return ElboTerms(*(sums / len(data)))


@torch.no_grad()
def estimate_log_likelihood(model: CVAE, data: ImageSet, num_samples: int = 5000, seed: int = 0) -> Tensor:
    """The importance-weighted bound on log p(x | y) of every image in a data set, in nats, shape (N,).

        log 1/K sum_k w_k <= log p(x | y) in expectation, see `importance_weighted_bound`

    Images and draws are taken a few at a time, so that memory stays flat. With K = 5000 this is the published protocol
    of Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016. Same seed, same values.

    Raises:
        ValueError: data that does not fit the model, or num_samples below 1.

    Equations: (6.1), (9.7)
    """
    chunk = max(1, CHUNK // (max(1, num_samples) * model.pixels))
    return torch.cat([draws.bound for draws in draws_of(model, data, num_samples, chunk, seed)])


def draws_of(model: CVAE, data: ImageSet, num_samples: int, batch_size: int, seed: int) -> Iterator[PosteriorDraws]:
    """K draws for each image, a few images at a time, in order."""
    x, y = on_device(model, data)
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    for batch in torch.arange(len(x), device=model.device).split(batch_size):
        yield posterior_draws(model, x[batch], None if y is None else y[batch], num_samples, generator=generator)


def on_device(model: CVAE, data: ImageSet) -> tuple[Tensor, Tensor | None]:
    """Images, and labels if the model has them, where the model is.

    Raises:
        ValueError: they do not fit the model.
    """
    x = data.images.to(model.device)
    model.check_images(x)
    return x, model.check_labels(data.labels, x) if model.num_labels else None
