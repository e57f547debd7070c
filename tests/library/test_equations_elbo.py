"""Equations of chapters 1 and 2 against quadrature, enumeration and models that are known exactly.

In a linear-Gaussian model the log-likelihood is quadratic in the code, so the two draws mu - sigma and mu + sigma give
its expectation exactly: the library's estimates then have no noise.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from numpy.polynomial.hermite_e import hermegauss
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from cvae_lib import Encoder, elbo, posterior_draws

W, B, S = 2.0, 1.0, 0.7
MU, SIGMA = 0.3, 0.6
NODES, WEIGHTS = (torch.from_numpy(part) for part in hermegauss(40))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # of an expectation under N(0, 1)
BOTH_WAYS = torch.tensor([-1.0, 1.0], dtype=torch.float64)
ZERO = torch.tensor(0)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture
def scalar() -> LinearGaussian:
    """One pixel, one latent dimension: x | z ~ N(W z + B, S^2), and q(z | x) = N(0.3 x - 0.2, 0.6^2)."""
    model = LinearGaussian(pixels=1, num_labels=1, s=S)
    encoder, decoder = model.encoder.body, model.decoder.body
    with torch.no_grad():
        decoder.first.weight.fill_(W)
        decoder.label_bias.weight.fill_(B)
        encoder.first.weight.copy_(torch.tensor([[0.3], [0.0]]))
        encoder.label_bias.weight.copy_(torch.tensor([[-0.2, 2 * math.log(SIGMA)]]))
    return model


def exact_elbo(model: LinearGaussian, x: Tensor, y: Tensor = ZERO) -> Tensor:
    """The library's ELBO without noise."""
    return elbo(model, x, y, noise=BOTH_WAYS.view(2, *[1] * x.dim()))


IMAGES = torch.tensor([[-2.0], [0.5], [1.0], [4.0]], dtype=torch.float64)


# ---- Chapter 1 ----


def test_draws_of_the_model_have_its_marginal() -> None:
    """Sampling (1.2), the code first and then the image, gives images of the exact covariance W W' + s^2 I.

    After whitening with it they must be standard normal; s in place of s^2, or a prior of another width, is not.
    """
    torch.manual_seed(0)
    model = LinearGaussian()
    z = model.prior.sample((20_000,))
    x = model.decode(z, torch.tensor(1)).sample()
    marginal = model.marginal(torch.tensor(1))
    white = torch.linalg.solve_triangular(marginal.scale_tril, (x - marginal.mean).T, upper=False)
    assert all(stats.kstest(pixel.detach().numpy(), "norm").pvalue > 0.01 for pixel in white)
    assert white.corrcoef().fill_diagonal_(0).abs().max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize(("D", "K"), [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_the_naive_estimate_is_unbiased_and_as_noisy_as_the_formula_says(D: int, K: int) -> None:
    """(1.5) and (1.6), for a prior of four codes: every outcome of the draws is enumerated, so nothing is estimated.

    D pixels have a code each. Wrong powers of rho, a missing -1 or a K in the wrong place show at once.
    """
    codes, prior = np.array([-1.2, 0.1, 0.8, 2.0]), np.array([0.1, 0.4, 0.3, 0.2])
    likelihood = stats.norm.pdf(1.5, W * codes + B, S)
    p = (prior * likelihood).sum()
    rho = (prior * likelihood**2).sum() / p**2
    mean = square = 0.0
    for outcome in itertools.product(range(4), repeat=D * K):
        drawn = np.array(outcome).reshape(K, D)
        estimate = likelihood[drawn].prod(1).mean()
        mean += prior[drawn].prod() * estimate
        square += prior[drawn].prod() * estimate**2
    assert mean == pytest.approx(p**D, rel=1e-10)
    assert (square - mean**2) / p ** (2 * D) == pytest.approx((rho**D - 1) / K, rel=1e-10)


def test_the_closed_form_of_the_elbo(scalar: LinearGaussian) -> None:
    """The library's ELBO is (1.12), written out in plain numbers; without w^2 sigma^2 it would be 1.5 nats off."""
    for x, found in zip(IMAGES[:, 0].tolist(), exact_elbo(scalar, IMAGES).tolist(), strict=True):
        mu = 0.3 * x - 0.2
        expected = -0.5 * math.log(2 * math.pi * S**2) - ((x - B - W * mu) ** 2 + W**2 * SIGMA**2) / (2 * S**2)
        expected -= 0.5 * (mu**2 + SIGMA**2 - math.log(SIGMA**2) - 1)
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_closed_form_of_the_gap(scalar: LinearGaussian) -> None:
    """(1.13) is what the library's ELBO lacks to log p(x), and the divergence from the posterior by quadrature."""
    gaps = stats.norm.logpdf(IMAGES[:, 0], B, math.hypot(W, S)) - exact_elbo(scalar, IMAGES).detach().numpy()
    z = np.linspace(-12, 12, 40_001)
    for x, gap in zip(IMAGES[:, 0].tolist(), gaps, strict=True):
        mu, mu_star, variance_star = 0.3 * x - 0.2, W * (x - B) / (W**2 + S**2), S**2 / (W**2 + S**2)
        ratio = SIGMA**2 / variance_star
        formula = 0.5 * (ratio + (mu - mu_star) ** 2 / variance_star - math.log(ratio) - 1)
        log_q = stats.norm.logpdf(z, mu, SIGMA)
        joint = stats.norm.pdf(z) * stats.norm.pdf(x, W * z + B, S)
        with np.errstate(divide="ignore"):
            log_posterior = np.log(joint) - np.log(np.trapezoid(joint, z))
        near = np.abs(z - mu) < 7 * SIGMA
        by_quadrature = np.trapezoid((np.exp(log_q) * (log_q - log_posterior))[near], z[near])
        assert gap == pytest.approx(formula, abs=1e-6)
        assert by_quadrature == pytest.approx(formula, abs=1e-6)


def test_the_average_elbo_falls_short_by_entropy_model_and_posterior(scalar: LinearGaussian) -> None:
    """(1.15): nature is N(0.5, 1.3^2), the model another Gaussian, q not the posterior; each part is 0.2 nats or more.

    Everything is quadratic in x, so the expectation over nature by Gauss-Hermite nodes is exact.
    """
    nature = Normal(number(0.5), number(1.3))
    x = (nature.loc + nature.scale * NODES)[:, None]
    average = (WEIGHTS * exact_elbo(scalar, x)).sum()
    model_is_wrong = kl_divergence(nature, Normal(number(B), number(math.hypot(W, S))))
    q_is_wrong = (WEIGHTS * scalar.divergence(x, ZERO)).sum()
    assert min(model_is_wrong, q_is_wrong) > 0.2
    assert average.item() == pytest.approx((-nature.entropy() - model_is_wrong - q_is_wrong).item(), abs=1e-6)


def test_the_bent_model_has_the_moments_of_a_square() -> None:
    """(1.16): with x = z^2 + noise, E x = 1, Var x = 2 + s^2, and the third central moment is 8 (a chi-square's)."""
    z, x = np.linspace(-9, 9, 1801), np.linspace(-6, 90, 4801)
    density = np.trapezoid(stats.norm.pdf(z) * stats.norm.pdf(x[:, None], z**2, 0.5), z, axis=1)
    mean = np.trapezoid(x * density, x)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-6)
    assert mean == pytest.approx(1, abs=1e-5)
    assert np.trapezoid((x - mean) ** 2 * density, x) == pytest.approx(2 + 0.5**2, abs=1e-4)
    assert np.trapezoid((x - mean) ** 3 * density, x) == pytest.approx(8, abs=1e-2)


# ---- Chapter 2 ----


def test_gradients_of_the_reconstruction_by_three_ways(scalar: LinearGaussian) -> None:
    """(2.2) by the library's draws; by the identity (2.3), integrated with quadrature; and by hand.

    The identity holds for any f, so a baseline must change nothing; a forgotten log in it would.
    """
    x = number(3.0)
    mu, sigma = number(MU).requires_grad_(), number(SIGMA).requires_grad_()
    draws = posterior_draws(scalar, x[None], ZERO, noise=BOTH_WAYS[:, None], posterior=Normal(mu[None], sigma[None]))
    by_library = torch.autograd.grad(draws.log_likelihood.mean(), (mu, sigma))
    by_hand = (W * (x - B - W * MU) / S**2, -(W**2) * SIGMA / S**2)
    for baseline in (0.0, 5.0):
        z = MU + SIGMA * NODES
        f = Normal(W * z + B, S).log_prob(x) - baseline
        score = ((z - MU) / SIGMA**2, ((z - MU) ** 2 / SIGMA**2 - 1) / SIGMA)  # d log q / d mu, d log q / d sigma
        by_identity = [(WEIGHTS * f * part).sum() for part in score]
        torch.testing.assert_close(torch.stack(by_identity), torch.stack(by_library), rtol=1e-9, atol=0)
    by_torch = torch.autograd.grad(Normal(mu, sigma).log_prob(z).sum(), (mu, sigma))
    torch.testing.assert_close(torch.stack(by_torch), torch.stack([part.sum() for part in score]))
    assert [g.item() for g in by_library] == pytest.approx([float(g) for g in by_hand], rel=1e-6)


def test_the_variance_of_a_gradient_falls_with_the_number_of_draws(scalar: LinearGaussian) -> None:
    """(2.6): an average of 8 draws has an eighth of the variance of one. Draws that are shared would have all of it.

    20,000 gradients of Gaussian draws know each variance to 1 per cent; the ratio is held to 5.
    """
    torch.manual_seed(0)
    variance = {}
    for K in (1, 8):
        mu = torch.full((20_000, 1), MU, dtype=torch.float64, requires_grad=True)
        x = torch.full((20_000, 1), 3.0, dtype=torch.float64)
        draws = posterior_draws(scalar, x, ZERO, K, posterior=Normal(mu, torch.full_like(mu, SIGMA)))
        (gradients,) = torch.autograd.grad(draws.log_likelihood.mean(0).sum(), mu)
        variance[K] = gradients.var().item()
    assert variance[1] / variance[8] == pytest.approx(8, rel=0.05)
    assert variance[1] == pytest.approx((W**2 * SIGMA / S**2) ** 2, rel=0.05)


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
def test_the_divergence_between_two_gaussians_is_an_integral(scalar: LinearGaussian, mu: float, sigma: float) -> None:
    """(2.7): what the library charges for a code, against the integral of q (log q - log p); sigma must be squared."""
    q = Normal(number(mu).view(1, 1), number(sigma).view(1, 1))
    charged = posterior_draws(scalar, IMAGES[:1], ZERO, posterior=q).kl.item()
    z = np.linspace(mu - 9 * sigma, mu + 9 * sigma, 20_001)
    log_q = stats.norm.logpdf(z, mu, sigma)
    assert charged == pytest.approx(np.trapezoid(np.exp(log_q) * (log_q - stats.norm.logpdf(z)), z), abs=1e-8)
    assert charged == pytest.approx(0.5 * (mu**2 + sigma**2 - math.log(sigma**2) - 1), abs=1e-12)


class Emits(torch.nn.Module):
    """A body that emits the same numbers for every image."""

    def __init__(self, *emitted: float) -> None:
        super().__init__()
        self.emitted = torch.nn.Parameter(torch.tensor(emitted, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Them, once for each image."""
        return self.emitted.expand(*x.shape[:-1], -1)


def test_the_encoder_reads_means_and_logarithms_of_variances() -> None:
    """(2.9), (2.11) and (3.1): the density is scipy's with covariance diag exp(l); exp(l) is no standard deviation."""
    q = Encoder(Emits(0.5, -1.0, 0.4, math.log(0.3), 0.0, math.log(4.0)))(torch.zeros(1, 7))
    z = np.array([[0.1, 0.2, 0.3], [-1.0, 2.0, 0.5]])
    expected = stats.multivariate_normal([0.5, -1.0, 0.4], np.diag([0.3, 1.0, 4.0])).logpdf(z)
    np.testing.assert_allclose(q.log_prob(torch.from_numpy(z)).sum(-1).detach(), expected, rtol=1e-12)
    torch.testing.assert_close(q.scale[0], torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64).sqrt())


def test_gradients_of_the_divergence_with_respect_to_what_the_encoder_emits() -> None:
    """(2.10): mu_j and (exp(l_j) - 1) / 2, by autograd through the library's encoder and torch's divergence."""
    body = Emits(1.5, -0.4, -2.0, 0.7)
    prior = Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    kl = kl_divergence(Encoder(body)(torch.zeros(7)), prior).sum()
    kl.backward()
    mu, l = np.array([1.5, -0.4]), np.array([-2.0, 0.7])  # noqa: E741
    assert kl.item() == pytest.approx(0.5 * (mu**2 + np.exp(l) - l - 1).sum(), rel=1e-12)
    np.testing.assert_allclose(body.emitted.grad, [*mu, *(0.5 * (np.exp(l) - 1))], rtol=1e-12)


def test_the_best_linear_encoder_closes_the_gap(scalar: LinearGaussian) -> None:
    """(2.12), put into an encoder: the library's ELBO is log p(x) for every image, and its gradient vanishes."""
    slope, offset = W / (W**2 + S**2), -W * B / (W**2 + S**2)
    with torch.no_grad():
        scalar.encoder.body.first.weight[0] = slope
        scalar.encoder.body.label_bias.weight.copy_(torch.tensor([[offset, math.log(S**2 / (W**2 + S**2))]]))
    found = exact_elbo(scalar, IMAGES)
    np.testing.assert_allclose(found.detach(), stats.norm.logpdf(IMAGES[:, 0], B, math.hypot(W, S)), atol=1e-6)
    gradients = torch.autograd.grad(found.mean(), list(scalar.encoder.parameters()))
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-6


@pytest.mark.parametrize("D", [1, 2, 10, 784])
def test_most_noise_of_a_step_comes_from_the_images_when_there_are_many_pixels(D: int) -> None:
    """(2.14) by the covariance matrix of code and pixels, conditioned with linear algebra.

    g is the derivative of the log-likelihood in the offset of the first pixel, (x_1 - b - w z) / s^2.
    """
    covariance = np.block([[np.eye(1), W * np.ones((1, D))], [W * np.ones((D, 1)), W**2 + S**2 * np.eye(D)]])
    gain = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])  # E[z | x] = gain . (x - b)
    variance = 1 - covariance[0, 1:] @ gain
    v_draws = W**2 * variance / S**4
    direction = (np.eye(D)[0] - W * gain) / S**2  # E[g | x] = direction . (x - b)
    v_images = direction @ covariance[1:, 1:] @ direction
    assert v_draws == pytest.approx(W**2 / (S**2 * (S**2 + D * W**2)), rel=1e-8)
    assert v_images == pytest.approx(1 / S**2 - v_draws, rel=1e-8)
    assert v_draws / v_images == pytest.approx(W**2 / (S**2 + (D - 1) * W**2), rel=1e-8)
