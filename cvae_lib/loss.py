"""Bounds on log p(x | y), and in two latent dimensions its value, in nats, one per image."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal, kl_divergence

from cvae_lib.model import CVAE


class ElboTerms(NamedTuple):
    """The two terms of the negative ELBO, in nats, one value per image.

        loss = reconstruction + kl = -ELBO

    With the Bernoulli likelihood, the loss of a grey image is the expected -ELBO of that image binarised at random,
    and so an upper bound on its expected -log p.

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
        """Both terms of the negative ELBO: the mean over the draws and the closed-form KL divergence."""
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
        """(sum_k w_k)^2 / sum_k w_k^2: K when all weights are equal, 1 when one of them is all there is.

        Equations: (6.4)
        """
        log_weights = self.log_weights
        return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def posterior_draws(
    model: CVAE,
    x: Tensor,
    y: Tensor | None = None,
    num_samples: int = 1,
    *,
    noise: Tensor | None = None,
    posterior: Normal | None = None,
) -> PosteriorDraws:
    """Draw K codes for every image, z_k = mu + sigma * epsilon_k, and decode them.

    Args:
        model: a `CVAE`.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        num_samples: K, at least 1.
        noise: K standard normal draws (K, ..., latent_dim) to use instead of fresh ones, z_k = mu + sigma * noise_k;
            its first size is then K.
        posterior: a q to draw from instead of the encoder's, batch shape (..., latent_dim).

    Raises:
        ValueError: num_samples is below 1, or x or y does not fit the model.

    Equations: (2.4)
    """
    posterior = model.encode(x, y) if posterior is None else posterior
    z = _draw(posterior, num_samples, noise)
    return PosteriorDraws(z, model.decode(z, y).log_prob(x).sum(-1), posterior, model.prior)


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
        ValueError: num_samples is below 1, or x or y does not fit the model.

    Equations: (2.1), (2.4), (2.8), (3.4), (7.2)

    Source: Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, eq. 10.
    """
    posterior = model.encode(x, y)
    z = _draw(posterior, num_samples, noise)  # (K, ..., latent_dim)
    log_likelihood = model.decode(z, y).log_prob(x).sum(-1)  # (K, ...)
    return ElboTerms(-log_likelihood.mean(0), kl_divergence(posterior, model.prior).sum(-1))


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
        ValueError: num_samples is below 1, or x or y does not fit the model.

    Equations: (6.1), (6.2), (6.7), (9.7), (9.8)

    Source: Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, eq. 8.
    """
    posterior = model.encode(x, y)
    z = _draw(posterior, num_samples, noise)  # (K, ..., latent_dim)
    log_joint = model.decode(z, y).log_prob(x).sum(-1) + model.prior.log_prob(z).sum(-1)  # (K, ...)
    log_weights: Tensor = log_joint - posterior.log_prob(z).sum(-1)
    return log_weights.logsumexp(0) - math.log(len(z))


def _draw(posterior: Normal, num_samples: int, noise: Tensor | None) -> Tensor:
    """K reparameterised draws from the posterior, (K, ..., latent_dim)."""
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
    if noise is None:
        return posterior.rsample(torch.Size([num_samples]))
    return posterior.loc + posterior.scale * noise


@torch.no_grad()
def log_likelihood_by_quadrature(
    model: CVAE, x: Tensor, y: Tensor | None = None, *, border: float = 10.0, spacing: float = 0.025
) -> Tensor:
    """log p(x | y) by a sum over a lattice in the plane, for a code of two dimensions; in nats, one per image.

        log p(x | y) = log integral p(z) p(x | z, y) dz ~ log sum_g p(z_g) p(x | z_g, y) spacing^2

    The square from -border to border in both directions is cut into tiles. Every tile is summed coarsely first;
    where it holds more than exp(-14) of an image's integral it is summed again with `spacing`, for these images.
    A lattice is decoded once per label, for all images: every likelihood here has the form
    log p(x | z, y) = a(z) + b(z) . x + h(x), so that one matrix product serves them all. Memory stays flat.

    Accuracy, with the weights "cvae-2d" and MNIST: halving the spacing, or widening the border to 12, changes no
    value by 0.01 nat. A border of 6 would: under a wrong label far codes, which the prior hardly ever draws, may
    be all that explains an image. The encoder takes no part. On grey pixels the Bernoulli likelihood makes the value a
    pseudo-likelihood.

    Args:
        model: a `CVAE` with latent_dim 2.
        x: images, shape (..., pixels), see `CVAE.encode`.
        y: integer labels, shape broadcastable with x.shape[:-1], or None for a model without labels.
        border: half the side of the square, above 0.
        spacing: largest distance between neighbours in the fine lattice, above 0; the coarse one has 0.2.

    Returns:
        One value per image and label, with the shape of x[..., 0] and y broadcast; no gradient.

    Raises:
        ValueError: the code has not two dimensions, border or spacing is not above 0, or x or y does not fit.

    Equations: (1.1), (7.1), (9.9), (9.12)
    """
    if model.latent_dim != 2:
        raise ValueError(f"Quadrature needs a code of two dimensions; this model has {model.latent_dim}.")
    if not (0 < border < math.inf and 0 < spacing < math.inf):
        raise ValueError(f"border and spacing must be above 0 and finite; got {border=}, {spacing=}.")
    model.check_images(x)
    y = model.check_labels(y, x)
    batch = x.shape[:-1] if y is None else torch.broadcast_shapes(x.shape[:-1], y.shape)
    labels = x.new_zeros(batch, dtype=torch.int64) if y is None else y.expand(batch)
    every_x, result = x.expand(*batch, -1), x.new_empty(batch)
    for label in labels.unique():
        chosen, given = labels == label, None if y is None else label
        parts = every_x[chosen].split(10_000)
        result[chosen] = torch.cat([_log_integral(model, part, given, border, spacing) for part in parts])
    return result


def _log_integral(model: CVAE, x: Tensor, y: Tensor | None, border: float, spacing: float) -> Tensor:
    """log integral of p(z) p(x | z, y) over the square, coarsely and then finely where it matters; (images,)."""
    side = 2 * border / math.ceil(border / 0.2 - 1e-9)  # of a tile, 0.4 or a little less
    tiles = _lattice(border, side).to(x)  # their centres
    coarse, fine = (_lattice(side / 2, min(step, side / 2)).to(x) for step in (0.2, spacing))  # points of one tile
    log_mean = torch.cat([_log_mean(model, x, y, some, coarse) for some in tiles.split(512)], dim=1)
    matters = log_mean > log_mean.logsumexp(1, keepdim=True) - 14  # (images, tiles)
    for tile in matters.any(0).nonzero()[:, 0]:
        rows = matters[:, tile]
        log_mean[rows, tile] = _log_mean(model, x[rows], y, tiles[tile, None], fine)[:, 0]
    return log_mean.logsumexp(1) + 2 * math.log(side)


def _lattice(border: float, step: float) -> Tensor:
    """Middles of the small squares, of side step at most, that fill the square from -border to border; (points, 2)."""
    n = math.ceil(2 * border / step - 1e-9)
    axis = (2 * torch.arange(n, dtype=torch.float64) + 1 - n) * (border / n)
    return torch.cartesian_prod(axis, axis)


def _log_mean(model: CVAE, x: Tensor, y: Tensor | None, tiles: Tensor, points: Tensor) -> Tensor:
    """log mean of p(z) p(x | z, y) over the points around each tile's centre; (images, tiles)."""
    z = (tiles[:, None] + points).flatten(0, 1)
    likelihood = model.decode(z, y)
    if isinstance(likelihood, Bernoulli | ContinuousBernoulli):
        slope, rest = likelihood.logits, x.new_zeros(len(x))
    elif isinstance(likelihood, Normal):  # sigma_G is the same for every code
        slope, rest = likelihood.loc / likelihood.scale**2, -0.5 * (x / likelihood.scale[0]).square().sum(-1)
    else:
        raise ValueError(f"Quadrature knows the likelihoods of `Decoder`; this model has {likelihood}.")
    constant = likelihood.log_prob(torch.zeros_like(slope)).sum(-1) + model.prior.log_prob(z).sum(-1)
    log_joint = torch.addmm(constant, x, slope.T).unflatten(1, (len(tiles), -1))  # (images, tiles, points)
    return log_joint.logsumexp(-1) + rest[:, None] - math.log(len(points))  # type: ignore[no-any-return]
