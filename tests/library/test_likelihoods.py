"""Likelihoods are the densities they say they are, and a fourth one needs nothing but its class."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from toys import spread_out

from cvae_lib import elbo_terms, posterior_draws
from cvae_lib.likelihoods import make_likelihood

LOGITS = (-30.0, -8.0, -1.0, -0.1, 0.0, 0.05, 2.5, 17.0)


def likelihood_at(logit: float, likelihood: str, sigma_G: float = 0.3):
    """p(x | z) for one pixel whose logit is known."""
    arguments = {"sigma_G": sigma_G} if likelihood == "gaussian" else {}
    return make_likelihood(likelihood, **arguments)(torch.tensor([logit]))


@pytest.mark.parametrize("logit", LOGITS)
def test_bernoulli_is_minus_the_cross_entropy_on_grey_pixels_too(logit):
    """(3.3) pixel by pixel."""
    for x in (0.0, 0.3, 1.0):
        expected = -x * np.logaddexp(0, -logit) - (1 - x) * np.logaddexp(0, logit)
        log_prob = likelihood_at(logit, "bernoulli").log_prob(torch.tensor([x])).item()
        assert log_prob == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_cross_entropy_on_grey_is_what_a_coin_costs_on_average_and_never_below_its_entropy(logit):
    """(5.4) pixel by pixel, with the expectation over both sides of the coin written out."""
    pixel = likelihood_at(logit, "bernoulli")
    heads, tails = (-pixel.log_prob(torch.tensor([b])).item() for b in (1.0, 0.0))
    for x in (0.0, 0.3, 1.0):
        entropy = stats.bernoulli(x).entropy()
        divergence = special.rel_entr([x, 1 - x], special.expit([logit, -logit])).sum()
        cross_entropy = -pixel.log_prob(torch.tensor([x])).item()
        assert cross_entropy == pytest.approx(x * heads + (1 - x) * tails, rel=1e-5, abs=1e-6)
        assert cross_entropy == pytest.approx(entropy + divergence, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_the_density_that_quadrature_normalises(logit):
    """(5.5), (9.11): proportional to exp(logit x) on [0, 1], confident pixels too (torch's own fails); mean (5.6)."""
    pixel = likelihood_at(logit, "continuous_bernoulli")
    total, mean = (integrate.quad(lambda x, k=k: x**k * math.exp(logit * x), 0, 1)[0] for k in (0, 1))
    for x in (0.0, 0.3, 1.0):
        expected = logit * x - math.log(total)
        assert pixel.log_prob(torch.tensor([x])).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert pixel.mean.item() == pytest.approx(mean / total, abs=1e-5)


def test_gaussian_is_centred_on_the_sigmoid_with_the_width_asked_for():
    for logit in LOGITS:
        expected = stats.norm.logpdf(0.3, loc=1 / (1 + math.exp(-logit)), scale=0.2)
        pixel = likelihood_at(logit, "gaussian", sigma_G=0.2)
        assert pixel.log_prob(torch.tensor([0.3])).item() == pytest.approx(expected, rel=1e-5)


def test_the_best_shared_sigma_is_the_root_mean_squared_error_over_posterior_draws():
    """(5.2): there the loss is stationary in log sigma_G and curves upwards, for any decoder and any data."""
    model = spread_out(likelihood="gaussian", learn_sigma_G=True)
    x, noise = torch.randn(5, 6, dtype=torch.float64), torch.randn(9, 5, 2, dtype=torch.float64)
    mean = model.decode(posterior_draws(model, x, noise=noise).z).mean
    rms = (x - mean).square().mean().sqrt().item()
    losses = []
    for factor in (1.0, 0.9, 1.1):
        with torch.no_grad():
            model.decoder.likelihood.log_sigma_G.fill_(math.log(factor * rms))
        loss = elbo_terms(model, x, noise=noise).loss.mean()
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, model.decoder.likelihood.log_sigma_G)
        assert abs(gradient) < 1e-9 if factor == 1 else abs(gradient) > 0.5
    assert losses[0] < min(losses[1:])
