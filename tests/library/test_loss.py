"""The two terms of the ELBO, against formulas written by hand, Monte Carlo and the exact log p(x)."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal
from torch.nn import functional as F
from toys import spread_out

from cvae_lib import CVAE, elbo, elbo_terms, importance_weighted_bound, loss, posterior_draws


@pytest.fixture
def x() -> torch.Tensor:
    """Five grey images, the first of them black and white."""
    images = torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images[0] = images[0].round()
    return images


def test_kl_is_the_closed_form_and_what_monte_carlo_says(x):
    """(2.8) with the logarithm of sigma, and the definition (1.9): the mean of log q - log p over 100,000 draws."""
    model = spread_out(latent_dim=3)
    kl = elbo_terms(model, x).kl
    mu, sigma = (value.detach().numpy() for value in (model.encode(x).loc, model.encode(x).scale))
    np.testing.assert_allclose(kl.detach(), 0.5 * (mu**2 + sigma**2 - 2 * np.log(sigma) - 1).sum(-1), rtol=1e-12)

    z = np.random.default_rng(0).normal(mu, sigma, size=(100_000, 5, 3))
    draws = (stats.norm.logpdf(z, mu, sigma) - stats.norm.logpdf(z)).sum(-1)
    standard_error = draws.std(0) / math.sqrt(len(draws))
    assert (abs(draws.mean(0) - kl.detach().numpy()) < 4 * standard_error).all()


@pytest.mark.parametrize("num_labels", [0, 3])
def test_reconstruction_is_the_average_over_the_draws(x, num_labels):
    """Draw by draw (2.1): the source's cross-entropy of the sigmoid mean, summed over pixels (3.3)."""
    model = spread_out(num_labels)
    y = torch.tensor([0, 2, 1, 1, 0]) if num_labels else None
    noise = torch.randn(4, 5, 2, dtype=torch.float64)
    posterior = model.encode(x, y)
    by_hand = [
        F.binary_cross_entropy(model.decode(posterior.loc + posterior.scale * draw, y).mean, x, reduction="none").sum(1)
        for draw in noise
    ]
    reconstruction = elbo_terms(model, x, y, noise=noise).reconstruction
    torch.testing.assert_close(reconstruction, torch.stack(by_hand).mean(0))


def test_the_gaussian_reconstruction_is_the_squared_error_in_units_of_sigma():
    """(5.1): ||x - mean||^2 / (2 sigma_G^2) and the constant that the source drops."""
    model, x = spread_out(likelihood="gaussian", sigma_G=0.3), 3 * torch.randn(5, 6, dtype=torch.float64)
    noise = torch.randn(1, 5, 2, dtype=torch.float64)
    mean = model.decode(model.encode(x).loc + model.encode(x).scale * noise[0]).mean
    expected = (x - mean).square().sum(-1) / (2 * 0.3**2) + 6 * math.log(0.3 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(elbo_terms(model, x, noise=noise).reconstruction, expected)


def test_more_draws_move_the_spread_not_the_mean(x):
    """400 averages over 25 draws spread a fifth as wide as 400 single draws, around the same mean."""
    model, many = spread_out(), x[1].expand(400, 6)
    one, average = (elbo_terms(model, many, num_samples=k).reconstruction.detach() for k in (1, 25))
    assert 4 < one.std() / average.std() < 6  # 5 within three standard errors of a ratio of two spreads
    assert abs(one.mean() - average.mean()) < 4 * one.std() / math.sqrt(400)


def test_loss_is_the_sum_of_both_terms_and_minus_the_elbo(x):
    """Loss (3.4) and bound (1.11) are made of the same two terms; the first alone is the ELBO plus the KL (9.6)."""
    model, noise = spread_out(), torch.randn(3, 5, 2, dtype=torch.float64)
    terms = elbo_terms(model, x, noise=noise)
    assert torch.equal(terms.loss, terms.reconstruction + terms.kl)
    assert torch.equal(elbo(model, x, noise=noise), -terms.loss)


def test_the_loss_of_a_grey_image_is_the_expected_loss_of_its_throws_and_bounds_their_log_p(x):
    """(5.4) with the KL term: all 64 black and white images written out, log p(b) by a sum over a fine grid.

    No model gets below the entropy of the throws: the floor and what a throw tells about its image.
    """
    model, noise = spread_out(latent_dim=1), torch.randn(500, 5, 1, dtype=torch.float64)
    throws = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)  # (64, 6)
    chance = (throws * x[:, None] + (1 - throws) * (1 - x[:, None])).prod(-1)  # of a throw, by image
    z, step = np.linspace(-10, 10, 4001, retstep=True)
    with torch.no_grad():
        _, kl = terms = elbo_terms(model, x, noise=noise)
        q = model.encode(x)
        decoded = model.decode(q.loc + q.scale * noise)  # codes from the grey images
        by_throw = -torch.stack([decoded.log_prob(b).sum(-1).mean(0) for b in throws], 1)
        mean = model.decode(torch.from_numpy(z)[:, None, None]).mean.numpy()
    expected = (chance * by_throw).sum(1) + kl
    torch.testing.assert_close(terms.loss, expected)

    b = throws.numpy()
    log_joint = np.log(b * mean + (1 - b) * (1 - mean)).sum(-1) + stats.norm.logpdf(z)[:, None]
    log_p = np.log(np.exp(log_joint).sum(0) * step)
    assert (chance.numpy() @ -log_p < terms.loss.numpy()).all()

    entropy = stats.entropy(chance.mean(0).numpy())
    floor = np.mean([stats.entropy(row) for row in chance.numpy()])
    told = np.mean([stats.entropy(row, chance.mean(0).numpy()) for row in chance.numpy()])
    assert entropy == pytest.approx(floor + told)
    assert entropy < (chance.numpy() @ -log_p).mean() < terms.loss.mean()


def test_every_image_under_every_label_has_a_value_of_its_own(x):
    model = spread_out(3)
    noise = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    table = elbo(model, x[:, None], torch.arange(3), noise=noise)
    assert table.shape == (5, 3)
    for label in range(3):
        torch.testing.assert_close(table[:, label], elbo(model, x, torch.tensor(label), noise=noise[:, :, label]))


@pytest.mark.parametrize("num_labels", [0, 3])
def test_the_elbo_falls_short_of_log_p_by_the_divergence_from_the_true_posterior(x, num_labels):
    """(1.10), (7.3): in one latent dimension a sum over a fine grid gives log p(x | y) and p(z | x, y) exactly."""
    model = spread_out(num_labels, latent_dim=1)
    y = torch.tensor([0, 2, 1, 1, 0]) if num_labels else None
    z, step = np.linspace(-10, 10, 4001, retstep=True)
    with torch.no_grad():
        mean = model.decode(torch.from_numpy(z)[:, None, None], y).mean.numpy()  # (grid, images, pixels)
        bound = elbo(model, x, y, num_samples=40_000).numpy()
        q = model.encode(x, y)
    log_joint = (x.numpy() * np.log(mean) + (1 - x.numpy()) * np.log1p(-mean)).sum(-1) + stats.norm.logpdf(z)[:, None]
    log_p = np.log(np.exp(log_joint).sum(0) * step)
    log_q = stats.norm.logpdf(z[:, None], q.loc[:, 0], q.scale[:, 0])
    gap = (np.exp(log_q) * (log_q - log_joint + log_p)).sum(0) * step

    assert (gap > 0.05).all()  # an encoder nobody trained is wrong everywhere, so the bound must be strict
    assert (bound < log_p).all()
    np.testing.assert_allclose(bound + gap, log_p, atol=0.05)  # a draw spreads over some 2 nats, their mean over 0.01


def test_gradients_pass_through_the_draws(x):
    """The encoder's gradient (2.5), against finite differences of the loss while the noise of (2.4) stays the same."""
    model = spread_out()

    def loss(_: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return elbo_terms(model, x, num_samples=3).reconstruction.mean()

    mu_and_log_variance = model.encoder.body.rest[1].bias
    assert torch.autograd.gradcheck(loss, mu_and_log_variance)
    assert (torch.autograd.grad(loss(x), mu_and_log_variance)[0] != 0).all()


def test_fewer_than_one_draw_is_refused(x):
    with pytest.raises(ValueError, match="num_samples must be at least 1; got 0"):
        elbo(spread_out(), x, num_samples=0)


def test_bad_images_and_labels_are_refused_here_too(x):
    with pytest.raises(ValueError, match="is conditional: give y"):
        elbo_terms(spread_out(3), x)
    with pytest.raises(ValueError, match="lie in "):
        elbo_terms(spread_out(), 2 * x)


# Draws: what all bounds are made of -----------------------------------------------------------------------------------


def test_all_bounds_come_from_the_same_draws(x):
    """With the same noise, terms and bound are what `elbo_terms` and `importance_weighted_bound` return."""
    model, noise = spread_out(3), torch.randn(4, 5, 2, dtype=torch.float64)
    y = torch.tensor([0, 2, 1, 1, 0])
    draws = posterior_draws(model, x, y, noise=noise)
    for ours, theirs in zip(draws.terms, elbo_terms(model, x, y, noise=noise), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(draws.bound, importance_weighted_bound(model, x, y, noise=noise))
    torch.testing.assert_close(draws.kl.sum(-1), draws.terms.kl)


def test_draws_from_another_posterior_are_weighted_by_its_density(x):
    """(6.1), (9.7) with scipy's densities; the encoder takes no part."""
    model, noise = spread_out(), torch.randn(4, 5, 2, dtype=torch.float64)
    q = Normal(torch.full((5, 2), 0.3, dtype=torch.float64), torch.full((5, 2), 0.7, dtype=torch.float64))
    draws = posterior_draws(model, x, noise=noise, posterior=q)
    z = 0.3 + 0.7 * noise.numpy()
    np.testing.assert_allclose(draws.z, z)
    log_ratio = (stats.norm.logpdf(z) - stats.norm.logpdf(z, 0.3, 0.7)).sum(-1)
    expected = draws.log_likelihood.detach().numpy() + log_ratio
    np.testing.assert_allclose(draws.log_weights.detach(), expected, rtol=1e-12)


def test_the_effective_sample_size_counts_the_draws_that_matter(x):
    """(6.4), by the definition on plain weights; all alike count K, one alone counts 1."""
    draws = posterior_draws(spread_out(), x, num_samples=7)
    weights = (draws.log_weights - draws.log_weights.max(0).values).exp()
    torch.testing.assert_close(draws.effective_sample_size, weights.sum(0) ** 2 / (weights**2).sum(0))

    alike = draws._replace(posterior=draws.prior, log_likelihood=torch.full_like(draws.log_likelihood, -900.0))
    torch.testing.assert_close(alike.effective_sample_size, torch.full((5,), 7.0).double())
    alike.log_likelihood[3] = 0.0
    torch.testing.assert_close(alike.effective_sample_size, torch.ones(5).double())


@pytest.mark.parametrize("shape", [(5, 2), (2,), (4, 5, 3), (4, 6, 2), (1, 4, 5, 2), (4, 5)])
@pytest.mark.parametrize("bound", [elbo, elbo_terms, importance_weighted_bound, posterior_draws])
def test_noise_of_another_shape_is_refused_and_never_averaged_over_images(x, bound, shape):
    """(5, 2) is the trap: it broadcasts, and its five images would be taken for five draws."""
    with pytest.raises(ValueError, match=r"noise must have shape \(K, \.\.\., latent_dim\) for q of \(5, 2\); got "):
        bound(spread_out(), x, noise=torch.zeros(shape))


def test_noise_for_more_images_than_one_is_refused(x):
    with pytest.raises(ValueError, match=r"for q of \(1, 2\); got \(4, 5, 2\)"):
        elbo(spread_out(), x[:1], noise=torch.zeros(4, 5, 2))


def test_one_noise_may_serve_all_images(x):
    noise = torch.randn(4, 1, 2, dtype=torch.float64)
    torch.testing.assert_close(elbo(spread_out(), x, noise=noise), elbo(spread_out(), x, noise=noise.expand(4, 5, 2)))


def test_draws_come_from_the_generator_that_is_passed_and_else_from_torchs_own(x):
    model = spread_out()
    state = torch.get_rng_state()
    first, second = (posterior_draws(model, x, generator=torch.Generator().manual_seed(1)).z for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(posterior_draws(model, x).z, first)


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 5 * 6, 3 * 5 * 6])
def test_draws_decoded_in_parts_are_the_draws_decoded_at_once(x, chunk, monkeypatch):
    """One draw at a time, also where one alone is more than a part; three at a time, the last part smaller."""
    model, y = spread_out(3), torch.tensor([0, 2, 1, 1, 0])
    noise = torch.randn(7, 5, 2, dtype=torch.float64)
    whole = posterior_draws(model, x, y, noise=noise)
    gradient = torch.autograd.grad(whole.bound.sum(), list(model.parameters()))
    monkeypatch.setattr(loss, "CHUNK", chunk)
    parts = posterior_draws(model, x, y, noise=noise)
    torch.testing.assert_close(parts.log_likelihood, whole.log_likelihood)
    torch.testing.assert_close(torch.autograd.grad(parts.bound.sum(), list(model.parameters())), gradient)


@pytest.mark.parametrize(("pixels", "batch", "num_samples"), [(784, (1,), 50_000), (128**2, (2, 3), 500), (16, (), 9)])
def test_the_memory_of_decoding_is_flat_in_the_number_of_draws(pixels, batch, num_samples, monkeypatch):
    """No more pixels than CHUNK at a time, and all draws in the end."""
    model, sizes = CVAE(pixels, (2,), 2), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z, y: sizes.append(z[..., 0].numel() * pixels) or decode(z, y))
    with torch.no_grad():
        draws = posterior_draws(model, torch.rand(*batch, pixels), num_samples=num_samples)
    assert draws.log_likelihood.shape == (num_samples, *batch)
    assert sum(sizes) == num_samples * math.prod(batch) * pixels
    assert max(sizes) <= loss.CHUNK
    assert len(sizes) <= 2 + sum(sizes) / loss.CHUNK * 1.5  # and not needlessly little


# Reductions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "beta"),
    [
        (lambda terms: (terms.reconstruction / 6).mean() + terms.kl.mean(), 6),
        (lambda terms: (terms.reconstruction / 6).mean() + (terms.kl / 2).mean(), 6 / 2),
        (lambda terms: terms.reconstruction.mean() + terms.kl.sum(), 5),
        (lambda terms: terms.reconstruction.sum() + terms.kl.mean(), 1 / 5),
    ],
    ids=["pixels averaged", "both averaged", "kl summed over the batch", "reconstruction summed over the batch"],
)
def test_a_wrong_reduction_is_the_right_one_with_another_beta(x, wrong, beta):
    """(5.9), (5.10), (5.11), (5.12), against (5.8): proportional gradients, to a relative 1e-5.

    6 pixels, 2 latent dimensions, a batch of 5.
    """
    model, noise = spread_out(), torch.randn(1, 5, 2, dtype=torch.float64)
    gradients = []
    for reduced in (wrong, lambda terms: (terms.reconstruction + beta * terms.kl).mean()):
        grads = torch.autograd.grad(reduced(elbo_terms(model, x, noise=noise)), list(model.parameters()))
        gradients.append(torch.cat([g.flatten() for g in grads]))
    one, other = gradients
    torch.testing.assert_close(one / one.norm(), other / other.norm(), rtol=1e-5, atol=1e-12)
