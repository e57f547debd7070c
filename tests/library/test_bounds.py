"""The importance-weighted bound, its order and its gradients, against models in which all is known."""

import math

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from numpy.polynomial.hermite_e import hermegauss
from scipy import stats
from torch.distributions import Normal
from toys import mean_and_error

from cvae_lib import (
    CVAE,
    elbo,
    importance_weighted_bound,
    posterior_draws,
)


@pytest.fixture
def exact() -> LinearGaussian:
    """One latent dimension, three pixels, two labels; the encoder is wrong on purpose, by 0.3 to 2 nats."""
    torch.manual_seed(0)
    return LinearGaussian()


@pytest.fixture
def x() -> torch.Tensor:
    """Four images of three pixels."""
    return torch.tensor([[0.3, -0.8, 0.1], [1.2, 0.4, -0.5], [-1.0, 0.2, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)


Y = torch.tensor([0, 1, 1, 0])


# The closed forms used below agree with one another -------------------------------------------------------------------


def test_in_the_exact_model_elbo_and_divergence_add_up_to_log_p(exact, x):
    """(1.10), (7.3), three formulas written apart from one another: log p(x | y) = ELBO + KL(q || posterior)."""
    torch.testing.assert_close(exact.elbo(x, Y) + exact.divergence(x, Y), exact.marginal(Y).log_prob(x))
    assert (exact.divergence(x, Y) > 0.1).all()


# ELBO <= importance-weighted bound <= log p ---------------------------------------------------------------------------


@torch.no_grad()
def test_the_elbo_is_below_log_p_by_the_divergence_from_the_posterior(exact, x):
    """(1.8), (7.2): over 40,000 draws the mean is log p - KL to four standard errors, which are below 0.02 nat."""
    draws = elbo(exact, x.expand(40_000, 4, 3), Y)
    mean, error = mean_and_error(draws)
    expected = exact.marginal(Y).log_prob(x) - exact.divergence(x, Y)
    assert (error < 0.02).all()
    assert ((mean - expected).abs() < 4 * error).all()


@torch.no_grad()
def test_the_bounds_are_ordered_in_expectation_and_tend_to_log_p(exact, x):
    """(6.2), (9.8): ELBO = L_1 < L_4 < L_16 < log p, each step clearer than its error; L_1000 has arrived."""
    exact_value = exact.marginal(Y).log_prob(x)
    means, errors = [], []
    for num_samples, repetitions in ((1, 40_000), (4, 40_000), (16, 40_000), (1000, 1_000)):
        draws = importance_weighted_bound(exact, x.expand(repetitions, 4, 3), Y, num_samples)
        mean, error = mean_and_error(draws)
        means.append(mean)
        errors.append(error)
    assert ((means[0] - exact.elbo(x, Y)).abs() < 4 * errors[0]).all()
    for lower, higher, e, f in zip(means[:2], means[1:3], errors[:2], errors[1:3], strict=True):
        assert (higher - lower > 4 * (e**2 + f**2).sqrt()).all()
    assert (exact_value - means[2] > 4 * errors[2]).all()
    torch.testing.assert_close(means[3], exact_value, atol=0.03, rtol=0)  # standard errors up to 0.004


@torch.no_grad()
def test_the_mean_weight_is_unbiased_for_p(exact, x):
    """Without the logarithm there is no bias (1.7): E[exp L_K] = p(x | y) for every K."""
    for num_samples in (1, 4):
        ratio = (
            importance_weighted_bound(exact, x.expand(100_000, 4, 3), Y, num_samples) - exact.marginal(Y).log_prob(x)
        ).exp()
        mean, error = mean_and_error(ratio)
        assert ((mean - 1).abs() < 4 * error).all()


def test_with_the_true_posterior_every_single_draw_is_log_p(exact, x):
    """Then all weights are equal, p(x | y): no bias and no spread, whatever K and the noise."""
    exact.make_encoder_exact()
    torch.testing.assert_close(exact.divergence(x, Y), torch.zeros(4, dtype=torch.float64))
    for num_samples in (1, 5):
        torch.testing.assert_close(importance_weighted_bound(exact, x, Y, num_samples), exact.marginal(Y).log_prob(x))


def test_the_bound_with_given_noise_is_the_formula(exact, x):
    """(6.1), (9.7) with scipy's densities, and a sum over two draws taken without log-sum-exp."""
    noise = torch.tensor([0.3, -1.1], dtype=torch.float64).reshape(2, 1, 1).expand(2, 4, 1)
    with torch.no_grad():
        mean, sd = exact.proposal(x, Y)
        z = (mean + sd * noise).numpy()
        log_p = stats.norm.logpdf(x.numpy(), z @ exact.w.numpy().T + exact.offset(Y).numpy(), exact.s).sum(-1)
        weights = np.exp(log_p + stats.norm.logpdf(z)[..., 0] - stats.norm.logpdf(z, mean, sd)[..., 0])
        bound = importance_weighted_bound(exact, x, Y, noise=noise)
    np.testing.assert_allclose(bound, np.log(weights.mean(0)), rtol=1e-12)


def test_a_bound_far_below_the_range_of_exp_is_finite():
    """400 pixels of probability 1e-9 each: the weights underflow to 0 in any float, their logarithms do not."""
    model = CVAE(400, (), 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.decoder.body.first.bias.fill_(-20.7)
    bound = importance_weighted_bound(model, torch.ones(1, 400), num_samples=3).item()
    assert bound == pytest.approx(-400 * 20.7, rel=1e-5)


@torch.no_grad()
def test_the_effective_sample_size_says_how_far_the_bound_is_from_log_p(exact, x):
    """(6.4), (6.5): log p - L_K is (1/ESS - 1/K) / 2, here 0.03 nat with standard errors of 4 % of it."""
    exact.make_encoder_exact()
    mean, sd = (value.expand(40_000, 4, 1) for value in exact.proposal(x, Y))
    q = Normal(mean, 3 * sd)  # wide, so that the weights are bounded
    draws = posterior_draws(exact, x.expand(40_000, 4, 3), Y, 20, posterior=q)
    off = (exact.marginal(Y).log_prob(x) - draws.bound).mean(0)
    expected = 0.5 * (1 / draws.effective_sample_size - 1 / 20).mean(0)
    torch.testing.assert_close(off, expected, rtol=0.25, atol=0)


# Gradients ------------------------------------------------------------------------------------------------------------


def gradients(model: LinearGaussian, value: torch.Tensor) -> torch.Tensor:
    """The gradient with respect to all weights, flattened."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def estimated(model: LinearGaussian, x: torch.Tensor, bound, num_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard error of a bound's gradient, over 100 batches of 400 draws per image."""
    batches = [bound(model, x.expand(400, 4, 3), Y, num_samples).mean(0).sum() for _ in range(100)]
    return mean_and_error(torch.stack([gradients(model, batch) for batch in batches]))


def expected_two_sample_bound(model: LinearGaussian, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """E[log (w_1 + w_2) / 2] by Gauss-Hermite quadrature over both draws, from the model's matrices."""
    nodes, weights = (torch.from_numpy(value) for value in hermegauss(40))
    weights = weights / weights.sum()
    mean, sd = model.proposal(x, y)
    z = mean + sd * nodes[:, None, None]  # (40, images, 1)
    error = (x - z @ model.w.T - model.offset(y)).square().sum(-1)
    log_ratio = -error / (2 * model.s**2) - 0.5 * z[..., 0] ** 2 + 0.5 * nodes[:, None] ** 2 + torch.log(sd[..., 0])
    log_weight = log_ratio - model.pixels * math.log(math.sqrt(2 * math.pi) * model.s)
    both = torch.logaddexp(log_weight[:, None], log_weight[None]) - math.log(2)
    return (weights[:, None, None] * weights[None, :, None] * both).sum((0, 1))


@pytest.mark.parametrize(
    ("bound", "num_samples", "oracle"),
    [
        (elbo, 1, LinearGaussian.elbo),
        (elbo, 3, LinearGaussian.elbo),
        (importance_weighted_bound, 1, LinearGaussian.elbo),
        (importance_weighted_bound, 2, expected_two_sample_bound),
    ],
)
def test_the_gradient_of_an_estimator_is_the_gradient_of_its_bound(exact, x, bound, num_samples, oracle):
    """(6.7), and its like for the ELBO, for every weight, to 4.5 standard errors, small against the gradient."""
    torch.manual_seed(1)
    mean, error = estimated(exact, x, bound, num_samples)
    expected = gradients(exact, oracle(exact, x, Y).sum())
    assert ((mean - expected).abs() <= 4.5 * error + 1e-9).all()
    assert error.norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("bound", [elbo, importance_weighted_bound])
def test_with_the_true_posterior_the_gradient_is_that_of_log_p(exact, x, bound):
    """There a bound touches log p: the decoder's gradients agree and the encoder's vanish."""
    torch.manual_seed(1)
    exact.make_encoder_exact()
    mean, error = estimated(exact, x, bound, 3)
    log_p = exact.marginal(Y).log_prob(x).sum()
    expected = torch.autograd.grad(log_p, list(exact.parameters()), allow_unused=True)
    expected = torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(exact.parameters(), expected, strict=True)
        ]
    )
    assert ((mean - expected).abs() <= 4.5 * error + 1e-9).all()
    assert error.norm() < 0.05 * expected.norm()


def test_fewer_than_one_sample_is_refused(exact, x):
    with pytest.raises(ValueError, match="num_samples must be at least 1; got 0"):
        importance_weighted_bound(exact, x, Y, 0)
