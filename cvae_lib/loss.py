"""Bounds on log p(x | y), in nats, one per image. Each is a function of the same draws from the posterior."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from cvae_lib.checks import check_at_least
from cvae_lib.model import CVAE

CHUNK = 2**22  # pixels decoded at a time; a few arrays of this many floats exist at once


class ElboTerms(NamedTuple):
    """The two terms of the negative ELBO, in nats, one value per image.

        loss = reconstruction + kl = -ELBO

    With the Bernoulli likelihood, the loss of a grey image is the expected -ELBO of that image binarised at random,
    and so an upper bound on its expected -log p.

    Attributes:
        reconstruction: E_q[-log p(x | z, y)], also called distortion; summed over pixels.
        kl: KL(q(z | x, y) || p(z)), also called rate; summed over latent dimensions.

    Equations: (1.11), (3.4)
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def loss(self) -> Tensor:
        """The negative ELBO."""
        return self.reconstruction + self.kl


class PosteriorDraws(NamedTuple):
    """K draws of the code for every image, and what all bounds are computed from.

    Attributes:
        z: the draws z_k ~ q(z | x, y), shape (K, ..., latent_dim); gradients pass through them (reparameterisation).
        log_likelihood: log p(x | z_k, y), summed over pixels, in nats, shape (K, ...).
        posterior, prior: q(z | x, y) and p(z).

    Equations: (2.1), (2.4), (6.1), (6.4), (9.7)
    """

    z: Tensor
    log_likelihood: Tensor
    posterior: Normal
    prior: Normal

    @property
    def kl(self) -> Tensor:
        """KL(q(z_j | x, y) || p(z_j)) of every latent dimension, in nats, (..., latent_dim)."""
        return kl_divergence(self.posterior, self.prior)

    @property
    def terms(self) -> ElboTerms:
        """Both terms of the negative ELBO, the mean over the draws and the closed-form KL divergence."""
        return ElboTerms(-self.log_likelihood.mean(0), self.kl.sum(-1))

    @property
    def log_weights(self) -> Tensor:
        """log w_k = log p(x | z_k, y) + log p(z_k) - log q(z_k | x, y), (K, ...)."""
        log_joint = self.log_likelihood + self.prior.log_prob(self.z).sum(-1)
        return log_joint - self.posterior.log_prob(self.z).sum(-1)  # type: ignore[no-any-return]

    @property
    def bound(self) -> Tensor:
        """The importance-weighted bound, log 1/K sum_k w_k."""
        return self.log_weights.logsumexp(0) - math.log(len(self.z))

    @property
    def effective_sample_size(self) -> Tensor:
        """(sum_k w_k)^2 / sum_k w_k^2, which is K when all weights are equal and 1 when one of them is all there is.

        Equations: (6.4)
        """
        log_weights = self.log_weights
        return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()

    def first(self, num_samples: int) -> "PosteriorDraws":
        """The first draws only."""
        return self._replace(z=self.z[:num_samples], log_likelihood=self.log_likelihood[:num_samples])


BOUNDS: dict[str, Callable[[PosteriorDraws], Tensor]] = {
    "reconstruction": lambda draws: -draws.terms.reconstruction,
    "elbo": lambda draws: -draws.terms.loss,
    "importance_weighted": lambda draws: draws.bound,
}
"""What may stand for log p(x | y), from the draws, by name.

- reconstruction: E_q[log p(x | z, y)] without the KL; bounds nothing, and may exceed log p(x | y).
- elbo: E_q[log p(x | z, y)] - KL(q(z | x, y) || p(z)), with the closed-form KL; a lower bound in expectation.
- importance_weighted: log of the mean of K importance weights; a lower bound in expectation, tighter with K.
"""


def posterior_draws(
    model: CVAE,
    x: Tensor,
    y: Tensor | None = None,
    num_samples: int = 1,
    *,
    noise: Tensor | None = None,
    posterior: Normal | None = None,
    generator: torch.Generator | None = None,
) -> PosteriorDraws:
    """Draw K codes for every image, z_k = mu + sigma * epsilon_k, and decode them.

    Draws are decoded a few at a time, so that without gradients memory stays flat however large K is.

    Args:
        model: a `CVAE`.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        num_samples: K, at least 1.
        noise: K standard normal draws (K, ..., latent_dim) to use instead of fresh ones, z_k = mu + sigma * noise_k;
            its first size is then K.
        posterior: a q to draw from instead of the encoder's, batch shape (..., latent_dim).
        generator: of the fresh draws; torch's own if left out.

    Raises:
        ValueError: num_samples is below 1, or x, y or noise does not fit the model.

    Equations: (2.4)
    """
    check_at_least(1, num_samples=num_samples)
    posterior = model.encode(x, y) if posterior is None else posterior
    mean, sigma = posterior.loc, posterior.scale
    if noise is None:
        shape = (num_samples, *mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    elif noise.dim() != mean.dim() + 1 or any(1 != a != b for a, b in zip(noise.shape[1:], mean.shape, strict=True)):
        raise ValueError(
            f"noise must have shape (K, ..., latent_dim) for q of {tuple(mean.shape)}; got {tuple(noise.shape)}."
        )
    z = mean + sigma * noise  # (K, ..., latent_dim)
    parts = z.split(max(1, CHUNK // (z[0, ..., 0].numel() * model.pixels)))
    log_likelihood = torch.cat([model.decode(part, y).log_prob(x).sum(-1) for part in parts])  # (K, ...)
    return PosteriorDraws(z, log_likelihood, posterior, model.prior)


def elbo_terms(
    model: CVAE, x: Tensor, y: Tensor | None = None, num_samples: int = 1, *, noise: Tensor | None = None
) -> ElboTerms:
    """Both terms of the negative ELBO, estimated with K draws and the closed-form KL divergence.

        reconstruction = -1/K sum_k log p(x | z_k, y),   z_k ~ q(z | x, y)
        kl = 1/2 sum_j (mu_j^2 + sigma_j^2 - log sigma_j^2 - 1)

    Gradients pass through the draws (reparameterisation). Pixels and latent dimensions are summed here; the mean over
    a batch is the caller's.

    Args:
        model: a `CVAE`.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        num_samples: K, at least 1.
        noise: standard normal draws (K, ..., latent_dim) to use instead of fresh ones, see `posterior_draws`.

    Returns:
        Reconstruction and KL, each with the shape of x[..., 0] and y broadcast. With the Bernoulli likelihood
        on grey pixels the reconstruction is a cross-entropy, not minus the log of a density; see `ElboTerms`.

    Raises:
        ValueError: see `posterior_draws`.

    Equations: (2.1), (2.4), (2.8), (3.4), (7.2)

    Source: Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, eq. 10.
    """
    return posterior_draws(model, x, y, num_samples, noise=noise).terms


def elbo(
    model: CVAE, x: Tensor, y: Tensor | None = None, num_samples: int = 1, *, noise: Tensor | None = None
) -> Tensor:
    """The evidence lower bound on log p(x | y), in nats, one per image; see `elbo_terms`.

        ELBO(x) = E_q[log p(x | z, y)] - KL(q(z | x, y) || p(z)) <= log p(x | y)

    The inequality holds for the expectation over draws, not for each draw.

    Equations: (1.8), (1.11), (2.1), (7.2)
    """
    return -elbo_terms(model, x, y, num_samples, noise=noise).loss


def importance_weighted_bound(
    model: CVAE, x: Tensor, y: Tensor | None = None, num_samples: int = 1, *, noise: Tensor | None = None
) -> Tensor:
    """The importance-weighted lower bound on log p(x | y), in nats, one per image.

        L_K(x) = E[ log 1/K sum_k w_k ],   w_k = p(x | z_k, y) p(z_k) / q(z_k | x, y),   z_k ~ q(z | x, y)

    The average of the weights w_k estimates p(x | y) without bias; its logarithm is too small on average, by
    Jensen. In expectation L_1 = ELBO, L_K grows with K and tends to log p(x | y). What is returned is one
    draw of the logarithm; with K = 1 that is the ELBO with its KL term sampled too. Gradients pass through it.

    Args:
        model: a `CVAE`.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        num_samples: K, at least 1.
        noise: standard normal draws (K, ..., latent_dim) to use instead of fresh ones, see `posterior_draws`.

    Returns:
        One estimate per image and label, with the shape of x[..., 0] and y broadcast.

    Raises:
        ValueError: see `posterior_draws`.

    Equations: (6.1), (6.2), (6.7), (9.7), (9.8)

    Source: Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, eq. 8.
    """
    return posterior_draws(model, x, y, num_samples, noise=noise).bound
