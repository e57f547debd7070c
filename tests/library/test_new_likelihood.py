"""A likelihood is one class: a fourth one, registered here, has bounds, quadrature, classifier and storage at once."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy import stats
from sklearn.datasets import load_digits
from torch.distributions import Binomial
from toys import mean_and_error

from cvae_lib import (
    CVAE,
    GenerativeClassifier,
    ImageSet,
    elbo,
    fit,
    importance_weighted_bound,
    log_likelihood_by_quadrature,
    posterior_draws,
)
from cvae_lib.likelihoods import LIKELIHOODS, Likelihood

LEVELS = 16


class BinomialLikelihood(Likelihood):
    """p(16 x_i = k | z) = C(16, k) s^k (1 - s)^(16 - k), s = sigmoid(logit_i), for x_i = 0, 1/16, ..., 1."""

    class Sixteenths(Binomial):
        """The binomial, counted in sixteenths."""

        def __init__(self, logits):
            super().__init__(LEVELS, logits=logits, validate_args=False)

        @property
        def mean(self):
            """Of x."""
            return super().mean / LEVELS

        def log_prob(self, value):
            """Of x = k / 16."""
            return super().log_prob(LEVELS * value)

    def forward(self, logits):
        """Logits to p(x | z)."""
        return self.Sixteenths(logits)

    def slope(self, logits):
        """b(z) = 16 logit."""
        return LEVELS * logits

    def base(self, x):
        """h(x) = log C(16, 16 x), summed over pixels."""
        k = LEVELS * x
        return (math.lgamma(LEVELS + 1) - (k + 1).lgamma() - (LEVELS - k + 1).lgamma()).sum(-1)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """All that anyone has to do."""
    monkeypatch.setitem(LIKELIHOODS, "binomial", BinomialLikelihood)


@pytest.fixture
def model() -> CVAE:
    """6 pixels, a code of two dimensions, three labels, in float64; its posteriors are off the prior."""
    torch.manual_seed(0)
    model = CVAE(6, (8,), 2, 3, likelihood="binomial", activation="tanh").double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    return model


@pytest.fixture
def x() -> torch.Tensor:
    """Four images of 6 pixels with 17 levels of grey."""
    return torch.randint(17, (4, 6), generator=torch.Generator().manual_seed(1)).double() / LEVELS


Y = torch.tensor([0, 2, 1, 1])


def log_p_of_scipy(model: CVAE, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> np.ndarray:
    """log p(x | z, y) by scipy's binomial, summed over pixels."""
    with torch.no_grad():
        share = model.decoder.logits(z, y).sigmoid().numpy()
    return stats.binom.logpmf((LEVELS * x.numpy()).round(), LEVELS, share).sum(-1)


def by_gauss_hermite(model: CVAE, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """log p(x | y), integrated over the plane by a rule of 100 x 100 points, for networks without kinks."""
    nodes, weights = (torch.from_numpy(value) for value in hermegauss(100))
    z = torch.cartesian_prod(nodes, nodes)
    log_weight = torch.cartesian_prod(weights, weights).log().sum(-1) - math.log(2 * math.pi)
    log_p = log_p_of_scipy(model, x, y, z[:, None])
    return np.logaddexp.reduce(log_p + log_weight.numpy()[:, None])


def test_the_terms_of_the_elbo_are_those_of_scipys_binomial(model, x):
    noise = torch.randn(3, 4, 2, dtype=torch.float64)
    draws = posterior_draws(model, x, Y, noise=noise)
    expected = log_p_of_scipy(model, x, Y, draws.z.detach())
    np.testing.assert_allclose(draws.log_likelihood.detach(), expected, rtol=1e-9)
    np.testing.assert_allclose(draws.terms.reconstruction.detach(), -expected.mean(0), rtol=1e-9)


@torch.no_grad()
def test_both_bounds_stay_below_log_p_and_the_tighter_one_arrives(model, x):
    """Over 1,000 repetitions: ELBO < L_500 <= log p by Gauss-Hermite, to four standard errors."""
    exact = torch.from_numpy(by_gauss_hermite(model, x, Y))
    torch.manual_seed(0)
    many = x.expand(1_000, 4, 6)
    lower, e = mean_and_error(elbo(model, many, Y))
    higher, f = mean_and_error(importance_weighted_bound(model, many, Y, 500))
    assert (higher - lower > 4 * (e**2 + f**2).sqrt()).all()
    assert (higher < exact + 4 * f).all()
    assert (exact - higher).median() < 0.1


def test_quadrature_agrees_with_gauss_hermite(model, x):
    value = log_likelihood_by_quadrature(model, x, Y)
    np.testing.assert_allclose(value, by_gauss_hermite(model, x, Y), atol=2e-3)


def test_the_probabilities_of_all_images_of_one_pixel_add_up_to_one():
    """h(x) counts here: without it the 17 levels would add up to less."""
    torch.manual_seed(0)
    model = CVAE(1, (8,), 2, likelihood="binomial").double()
    levels = torch.arange(17, dtype=torch.float64)[:, None] / LEVELS
    assert log_likelihood_by_quadrature(model, levels).logsumexp(0).item() == pytest.approx(0, abs=1e-5)


def test_the_classifier_scores_with_it(model, x):
    """By quadrature, the Bayes classifier of log p by Gauss-Hermite."""
    table = np.stack([by_gauss_hermite(model, x, torch.full((4,), label)) for label in range(3)], 1)
    expected = np.exp(table - np.logaddexp.reduce(table, axis=1)[:, None])
    model.float()
    np.testing.assert_allclose(GenerativeClassifier(model, "quadrature").predict_proba(x), expected, atol=1e-3)
    bound = GenerativeClassifier(model, "importance_weighted", 3_000).predict_proba(x)
    np.testing.assert_allclose(bound, expected, atol=0.05)


@pytest.mark.slow
def test_it_learns_the_digits_for_which_it_is_made():
    """scikit-learn's 8x8 digits have 17 levels of grey."""
    digits = load_digits()
    images = torch.from_numpy(digits.data / LEVELS).float()
    data = ImageSet(images, torch.from_numpy(digits.target), "8x8 digits")
    torch.manual_seed(0)
    model = CVAE(64, (64,), 4, 10, likelihood="binomial")
    history = fit(model, data, epochs=10, quiet=True, learning_rate=3e-3)
    assert history[-1].loss < history[0].loss - 50
    assert GenerativeClassifier(model).score(images, data.labels) > 0.7
    assert 0 <= model.sample(5, 3).min() <= model.sample(5, 3).max() <= 1


def test_it_is_stored_and_comes_back_and_has_its_range(model, x, tmp_path):
    model.save_pretrained(tmp_path)
    again = CVAE.from_pretrained(tmp_path)
    assert isinstance(again.decoder.likelihood, BinomialLikelihood)
    noise = torch.randn(2, 4, 2)
    torch.testing.assert_close(elbo(again, x.float(), Y, noise=noise), elbo(model.float(), x.float(), Y, noise=noise))
    with pytest.raises(ValueError, match=r"in \[0, 1\] for the binomial likelihood; these lie in"):
        model.encode(LEVELS * x)


def test_arguments_that_it_does_not_take_are_named():
    with pytest.raises(ValueError, match="The binomial likelihood does not take levels"):
        CVAE(6, likelihood="binomial", levels=16)
