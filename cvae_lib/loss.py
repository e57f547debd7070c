"""The evidence lower bound and its two terms, in nats, one value per image."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from cvae_lib.model import CVAE


class ElboTerms(NamedTuple):
    """The two terms of the negative ELBO, in nats, one value per image.

        loss = reconstruction + kl = -ELBO

    reconstruction: E_q[-log p(x | z, y)], also called distortion; summed over pixels.
    kl: KL(q(z | x, y) || p(z)), also called rate; summed over latent dimensions.
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def loss(self) -> Tensor:
        """The negative ELBO."""
        return self.reconstruction + self.kl


def elbo_terms(model: CVAE, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> ElboTerms:
    """Both terms of the negative ELBO, estimated with K draws and the closed-form KL divergence.

        reconstruction = -1/K sum_k log p(x | z_k, y),   z_k ~ q(z | x, y)
        kl = 1/2 sum_j (mu_j^2 + sigma_j^2 - log sigma_j^2 - 1)

    Gradients pass through the draws (reparameterisation). The sum over pixels and the sum over latent
    dimensions happen here and nowhere else; the mean over a batch is the caller's.

    Args:
        model: a `CVAE`.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        num_samples: K, at least 1.

    Returns:
        Reconstruction and KL, each with the shape of x[..., 0] and y broadcast. With the Bernoulli likelihood
        on grey pixels the reconstruction is a cross-entropy, not minus the log of a density.

    Raises:
        ValueError: num_samples is below 1, or x or y does not fit the model.

    Source: Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, eq. 10.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
    posterior = model.encode(x, y)
    z = posterior.rsample(torch.Size([num_samples]))  # (K, ..., latent_dim)
    log_likelihood = model.decode(z, y).log_prob(x).sum(-1)  # (K, ...)
    return ElboTerms(-log_likelihood.mean(0), kl_divergence(posterior, model.prior).sum(-1))


def elbo(model: CVAE, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Tensor:
    """The evidence lower bound on log p(x | y), in nats, one per image; see `elbo_terms`.

    ELBO(x) = E_q[log p(x | z, y)] - KL(q(z | x, y) || p(z)) <= log p(x | y)

    The inequality holds for the expectation over draws, not for each draw.
    """
    return -elbo_terms(model, x, y, num_samples).loss
