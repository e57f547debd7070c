"""Likelihoods are the densities they say they are, and a fourth one needs nothing but its class."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import ContinuousBernoulli as TorchsContinuousBernoulli
from toys import spread_out

from cvae_lib import elbo_terms, posterior_draws
from cvae_lib.likelihoods import ContinuousBernoulli, make_likelihood

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


# The continuous Bernoulli, at every logit -----------------------------------------------------------------------------

EVERYWHERE = torch.cat([torch.linspace(-500, 500, 4001), torch.linspace(-0.2, 0.2, 401), torch.tensor([-0.1, 0.1])])


def mirrored(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Log-normaliser, mean, slope of the mean and entropy: in float64, by a series where l is near 0.

    For l > 0, with e = exp(-l): A = l + log(1 - e) - log l, A' = 1 / (1 - e) - 1 / l, A'' = 1 / l^2 - e / (1 - e)^2.
    The other half follows from x -> 1 - x: A(-l) = A(l) - l, A'(-l) = 1 - A'(l), A''(-l) = A''(l).
    """
    size = np.abs(logits)
    safe = np.where(size < 0.3, 1.0, size)
    e = np.exp(-safe)
    series = {
        "log_normaliser": size / 2 + size**2 / 24 - size**4 / 2880 + size**6 / 181440,
        "mean": 0.5 + size / 12 - size**3 / 720 + size**5 / 30240,
        "variance": 1 / 12 - size**2 / 240 + size**4 / 6048 - size**6 / 172800,
    }
    exact = {
        "log_normaliser": safe + np.log1p(-e) - np.log(safe),
        "mean": 1 / (1 - e) - 1 / safe,
        "variance": 1 / safe**2 - e / (1 - e) ** 2,
    }
    found = {name: np.where(size < 0.3, series[name], exact[name]) for name in exact}
    found["entropy"] = found["log_normaliser"] - size * found["mean"]
    found["log_normaliser"] = np.where(logits < 0, found["log_normaliser"] - size, found["log_normaliser"])
    found["mean"] = np.where(logits < 0, 1 - found["mean"], found["mean"])
    return found


@pytest.mark.parametrize("name", ["log_normaliser", "mean", "variance", "entropy"])
def test_what_it_computes_in_float32_is_right_for_every_logit(name):
    """Against float64 and a longer series; at logits of 0.1 and a little more, differences of larger numbers lose most.

    Those of the variance lose three of the seven digits.
    """
    found = getattr(ContinuousBernoulli(EVERYWHERE), name)
    found = (found() if callable(found) else found).numpy()
    expected = mirrored(EVERYWHERE.double().numpy())[name]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2e-4 if name == "variance" else 2e-5, atol=2e-6)


def test_its_mean_is_never_0_or_1_and_the_gradient_is_the_variance_everywhere():
    """The derivative of A' is A''; where exp(-l) underflows too."""
    logits = EVERYWHERE.clone().requires_grad_()
    mean = ContinuousBernoulli(logits).mean
    (gradient,) = torch.autograd.grad(mean.sum(), logits)
    assert (mean > 0).all()
    assert (mean < 1).all()
    expected = mirrored(EVERYWHERE.double().numpy())["variance"]
    assert gradient.isfinite().all()
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_the_gradient_of_a_log_density_is_the_value_minus_the_mean():
    logits = EVERYWHERE.clone().requires_grad_()
    distribution = ContinuousBernoulli(logits)
    (gradient,) = torch.autograd.grad(distribution.log_prob(torch.tensor(0.25)).sum(), logits)
    torch.testing.assert_close(gradient, 0.25 - distribution.mean.detach(), rtol=1e-4, atol=1e-5)


def test_black_and_white_may_change_places():
    """mean(l) = 1 - mean(-l), and what follows from it."""
    one, other = ContinuousBernoulli(EVERYWHERE), ContinuousBernoulli(-EVERYWHERE)
    torch.testing.assert_close(one.mean, 1 - other.mean)
    torch.testing.assert_close(one.variance, other.variance)
    torch.testing.assert_close(one.entropy(), other.entropy(), rtol=1e-5, atol=1e-5)
    for value in (0.1, 0.5, 0.9):
        value = torch.tensor(value)
        torch.testing.assert_close(one.cdf(value), 1 - other.cdf(1 - value), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.icdf(value), 1 - other.icdf(1 - value), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.log_prob(value), other.log_prob(1 - value), rtol=1e-4, atol=1e-4)


def test_its_distribution_function_is_right_for_every_logit_and_its_inverse_is_one():
    """(exp(l x) - 1) / (exp(l) - 1) in float64, by numpy, with no positive number exponentiated."""
    logits = EVERYWHERE.double().numpy()
    size = np.maximum(np.abs(logits), 1e-9)
    for value in (0.0, 0.01, 0.3, 0.5, 0.99, 1.0):
        value = np.float32(value)
        below = np.where(logits < 0, value, 1 - value).astype(float)
        low = np.expm1(-size * below) / np.expm1(-size)
        expected = np.where(logits < 0, low, 1 - low)
        found = ContinuousBernoulli(EVERYWHERE).cdf(torch.tensor(value))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for share in (0.0, 0.05, 0.5, 0.95, 1.0):
        there = ContinuousBernoulli(EVERYWHERE).icdf(torch.tensor(share))
        assert (there >= 0).all()
        assert (there <= 1).all()
        back = ContinuousBernoulli(EVERYWHERE.double()).cdf(there.double())
        torch.testing.assert_close(back, torch.full_like(back, share), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["mean", "variance", "entropy"])
def test_in_float64_it_is_torchs_where_torchs_is_right(name):
    """For logits up to 12, where torch's clamp of the probabilities does not bite."""
    logits = torch.linspace(-12, 12, 481, dtype=torch.float64)
    ours, theirs = ContinuousBernoulli(logits), TorchsContinuousBernoulli(logits=logits)
    found, expected = (getattr(some, name) for some in (ours, theirs))
    if name == "entropy":
        found, expected = found(), expected()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for value in (0.0, 0.2, 0.7, 1.0):
        value = torch.tensor(value, dtype=torch.float64)
        torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.cdf(value), theirs.cdf(value), rtol=1e-4, atol=1e-5)
    share = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(ours.icdf(share), theirs.icdf(share), rtol=1e-4, atol=1e-5)


def test_at_a_logit_of_100_draws_are_as_bright_as_their_mean():
    """There torch's class, which clamps probabilities in float32, draws .937 instead of .990."""
    torch.manual_seed(0)
    bright = ContinuousBernoulli(torch.tensor(100.0))
    draws = bright.sample((100_000,))
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert draws.mean().item() == pytest.approx(0.990, abs=1e-4)  # a standard error of 3e-5
    assert draws.var().item() == pytest.approx(1e-4, rel=0.05)
    assert bright.mean.item() == pytest.approx(0.990, rel=1e-5)
    assert bright.variance.item() == pytest.approx(1e-4, rel=1e-4)
    assert bright.entropy().item() == pytest.approx(-3.605, abs=1e-3)  # 1 - log 100
    assert bright.cdf(torch.tensor(0.99)).item() == pytest.approx(0.368, abs=1e-3)  # 1 / e


@pytest.mark.parametrize("logit", [-100.0, -3.0, 0.01, 8.0])
def test_draws_have_its_distribution_and_pass_gradients(logit):
    """Kolmogorov and Smirnov's distance of 20,000 draws, and d/dl of the mean of draws against the variance."""
    torch.manual_seed(0)
    logits = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    distribution = ContinuousBernoulli(logits)
    draws = distribution.rsample((20_000,))
    found = stats.kstest(draws.detach().numpy(), lambda x: distribution.cdf(torch.from_numpy(x)).detach().numpy())
    assert found.pvalue > 1e-3
    (gradient,) = torch.autograd.grad(draws.mean(), logits)
    assert gradient.item() == pytest.approx(distribution.variance.item(), rel=0.05)


def test_its_shapes_are_those_of_a_distribution():
    distribution = ContinuousBernoulli(torch.zeros(3, 4))
    assert distribution.batch_shape == (3, 4)
    assert distribution.sample().shape == (3, 4)
    assert distribution.rsample((2, 5)).shape == (2, 5, 3, 4)
    assert distribution.log_prob(torch.rand(7, 3, 4)).shape == (7, 3, 4)
    assert not distribution.sample().requires_grad


def test_an_image_whose_logits_are_far_out_has_a_finite_gradient_in_the_code():
    """After training on digits a third of the logits lie below -88, where exp of their negative overflows."""
    model = spread_out(likelihood="continuous_bernoulli", factor=1).float()
    with torch.no_grad():
        model.decoder.body.rest[-1].bias.fill_(-100.0)
    z = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decode(z).mean.sum(), z)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()
