"""Equations of chapters 3 to 5 against enumeration, quadrature, numerical optimisation and autograd."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from scipy import integrate, linalg, optimize, stats
from torch import Tensor
from torch.distributions import AffineTransform, Independent, MultivariateNormal, Normal, TransformedDistribution
from torch.distributions import kl_divergence as kl
from toys import spread_out

from cvae_lib import CVAE, Elbo, log_likelihood_by_quadrature, posterior_draws
from cvae_lib.likelihoods import BernoulliLikelihood, GaussianLikelihood

BOTH_WAYS = torch.tensor([-1.0, 1.0], dtype=torch.float64)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- Chapter 3 ----


def test_the_probabilities_of_all_black_and_white_images_add_up() -> None:
    """(3.2) on all 64 images of 6 pixels: a product over pixels, by hand, that adds up to 1 over the images."""
    logits = float64(-2.0, -0.3, 0.0, 0.4, 1.0, 3.0)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    p = BernoulliLikelihood()(logits).log_prob(images).sum(-1).exp()
    m = 1 / (1 + np.exp(-logits.numpy()))
    by_hand = [math.prod(m[i] if x[i] else 1 - m[i] for i in range(6)) for x in images.tolist()]
    np.testing.assert_allclose(p, by_hand, rtol=1e-12)
    assert p.sum().item() == pytest.approx(1, abs=1e-12)


# ---- Chapter 4 ----


@pytest.mark.parametrize("n", [2, 9, 15])
def test_the_codes_of_a_grid_stand_in_cells_of_equal_mass(n: int) -> None:
    """(4.1) and (8.1), torch's quantiles against integrals of the density: each code has half of its cell on each side.

    Without the half the first code would be at minus infinity, or the grid lopsided.
    """
    codes = Normal(0.0, 1.0).icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    masses = [
        integrate.quad(stats.norm.pdf, low, high)[0]
        for low, high in itertools.pairwise([-np.inf, *codes.tolist(), np.inf])
    ]
    np.testing.assert_allclose(masses, [0.5 / n, *[1 / n] * (n - 1), 0.5 / n], atol=1e-8)
    np.testing.assert_allclose(codes, -codes.flip(0), atol=1e-12)


def test_the_rate_is_information_plus_mismatch() -> None:
    """(4.4), (4.5) and (4.6) for the posteriors of five images, all integrals by quadrature over the line.

    The rate is torch's divergence. With the images far apart the information reaches its ceiling, log N.
    """
    z = torch.linspace(-60, 60, 240_001, dtype=torch.float64)
    for spread, sigma, ceiling in ((1.0, 0.5, False), (20.0, 0.5, True)):
        q = Normal(spread * float64(-2, -1, 0, 1, 2)[:, None], sigma)
        log_each = q.log_prob(z)  # (images, codes)
        log_q = log_each.logsumexp(0) - math.log(5)  # (4.4)
        prior = Normal(float64(0), float64(1))
        assert torch.trapezoid(log_q.exp(), z).item() == pytest.approx(1, abs=1e-9)
        information = torch.trapezoid(log_each.exp() * (log_each - log_q), z).mean().item()
        mismatch = torch.trapezoid(log_q.exp() * (log_q - prior.log_prob(z)), z).item()
        assert kl(q, prior).mean().item() == pytest.approx(information + mismatch, rel=1e-7)
        assert 0 < information <= math.log(5) + 1e-9
        assert (information > math.log(5) - 1e-6) is ceiling


@pytest.fixture
def angle() -> Tensor:
    """A rotation of the plane by one radian."""
    c, s = math.cos(1.0), math.sin(1.0)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def test_a_rotated_model_is_the_same_model(angle: Tensor) -> None:
    """(4.8): log p(x) by the library's quadrature, and both terms of the ELBO with the rotated q, do not change.

    The decoder undoes the rotation; with R in place of its transpose log p(x) stays, but the reconstruction does not.
    """
    torch.manual_seed(0)
    model, x = spread_out(), torch.rand(3, 6, dtype=torch.float64)
    rotated = copy.deepcopy(model)
    with torch.no_grad():
        rotated.decoder.body.first.weight.copy_(model.decoder.body.first.weight @ angle.T)
        before, after = (log_likelihood_by_quadrature(each, x) for each in (model, rotated))
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)  # the lattice meets other kinks of the ReLUs
        draws = posterior_draws(model, x, num_samples=50)
        again = rotated.decode(draws.z @ angle.T).log_prob(x).sum(-1)
        torch.testing.assert_close(again, draws.log_likelihood, atol=1e-9, rtol=0)
        covariance = angle @ torch.diag_embed(draws.posterior.variance) @ angle.T
        q = MultivariateNormal(draws.posterior.loc @ angle.T, covariance)
        prior = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(kl(q, prior), draws.kl.sum(-1))
        assert covariance[:, 0, 1].abs().max() > 0.01, "q is diagonal again: nothing was tested"


def test_the_price_of_a_diagonal_covariance(angle: Tensor) -> None:
    """(4.9): the least divergence over diagonal covariances, found by scipy's minimiser, is that of 1 / Lambda_jj."""
    rotated = MultivariateNormal(torch.zeros(2).double(), angle @ torch.diag(float64(0.04, 1.5)) @ angle.T)
    precision = rotated.precision_matrix

    def divergence(log_d: np.ndarray) -> float:
        diagonal = torch.diag(torch.from_numpy(np.exp(log_d)))
        return kl(MultivariateNormal(torch.zeros(2).double(), diagonal), rotated).item()

    found = optimize.minimize(divergence, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    formula = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    assert formula > 0.5
    assert found.fun == pytest.approx(formula, abs=1e-8)
    np.testing.assert_allclose(np.exp(found.x), 1 / precision.diagonal().numpy(), rtol=1e-4)


def test_small_steps_have_the_length_that_the_metric_says() -> None:
    """(4.10) for the library's decoder and its Jacobian by autograd: the error falls with the step, so the limit is 1.

    F F' in place of F' F has another shape; without the root the ratio would vanish with the step.
    """
    model = spread_out(activation="tanh")
    z = float64(0.5, -0.3)

    def mean(code: Tensor) -> Tensor:
        return model.decode(code).mean

    jacobian = torch.autograd.functional.jacobian(mean, z)
    metric = jacobian.T @ jacobian
    direction = float64(0.6, -0.8)
    ratios = [
        ((mean(z + h * direction) - mean(z)).norm() / (h * (direction @ metric @ direction).sqrt())).item()
        for h in (1e-3, 1e-5)
    ]
    assert ratios[1] == pytest.approx(1, abs=1e-4)
    assert abs(ratios[1] - 1) < abs(ratios[0] - 1) / 10


def test_the_posterior_is_narrow_where_the_logits_are_steep() -> None:
    """(4.11): 1 / sigma^2 is the curvature of -log p(x, z), by autograd through the library, when logits are linear.

    Without the prior's 1, or with m in place of m (1 - m), it fails at once.
    """
    torch.manual_seed(0)
    model = CVAE(6, (), 2).double()
    with torch.no_grad():
        model.decoder.body.first.weight.mul_(4)
    x = torch.tensor([0.0, 1.0, 0.3, 1.0, 0.0, 0.8], dtype=torch.float64)

    def log_joint(code: Tensor) -> Tensor:
        return model.decode(code).log_prob(x).sum() + model.prior.log_prob(code).sum()

    z = float64(0.7, -1.1)
    curvature = -torch.autograd.functional.hessian(log_joint, z).diagonal()
    m, slopes = model.decode(z).mean, model.decoder.body.first.weight
    formula = 1 + (m * (1 - m)) @ slopes**2
    assert (formula > 1.2).all()
    torch.testing.assert_close(curvature, formula)


# ---- Chapter 5 ----


def test_every_pixel_pays_for_its_own_width() -> None:
    """(5.3): with torch's density, the best width of a pixel is its root mean square error, at the stated cost."""
    errors = torch.from_numpy(np.random.default_rng(0).normal(0, [0.1, 0.5], (500, 2)))

    def cost(sigma: Tensor) -> Tensor:
        return -Normal(0.0, sigma).log_prob(errors).mean(0)

    best = errors.square().mean(0).sqrt()
    torch.testing.assert_close(cost(best), best.log() + 0.5 * (1 + math.log(2 * math.pi)))
    assert (cost(1.05 * best) > cost(best)).all()
    assert (cost(0.95 * best) > cost(best)).all()


def test_other_units_shift_the_density() -> None:
    """(5.7): pixels from 0 to 255 in place of 0 to 1, with torch's change of variables; the sign is easily lost."""
    likelihood = GaussianLikelihood(0.1)(float64(-1.0, 0.2, 0.9, 2.0))
    x = float64(0.3, 0.5, 0.6, 1.0)
    finer = TransformedDistribution(Independent(likelihood, 1), [AffineTransform(0.0, 255.0, event_dim=1)])
    expected = likelihood.log_prob(x).sum() - 4 * math.log(255)
    torch.testing.assert_close(finer.log_prob(255 * x), expected)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_the_slope_of_the_curve_of_distortion_over_rate(beta: float) -> None:
    """(5.13): q is optimised for the library's objective at two values near beta; the slope between them is -beta."""
    torch.manual_seed(0)
    model = LinearGaussian()
    x, y = float64(0.3, -0.8, 0.1), torch.tensor(1)

    def terms(parameters: np.ndarray, weight: float) -> tuple[float, float, float]:
        mean, log_sigma = torch.from_numpy(parameters)[:, None]
        draws = posterior_draws(model, x, y, noise=BOTH_WAYS[:, None], posterior=Normal(mean, log_sigma.exp()))
        with torch.no_grad():
            return (*(term.item() for term in draws.terms), Elbo(weight)(draws, 0.0).item())

    def optimum(weight: float) -> tuple[float, float]:
        options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}
        found = optimize.minimize(lambda p: terms(p, weight)[-1], np.zeros(2), method="Nelder-Mead", options=options)
        return terms(found.x, weight)[:2]

    (low_d, low_r), (high_d, high_r) = optimum(0.99 * beta), optimum(1.01 * beta)
    assert (high_d - low_d) / (high_r - low_r) == pytest.approx(-beta, rel=1e-3)


def test_the_first_step_out_of_collapse() -> None:
    """(5.15) and (5.16): near a collapsed model the library's objective is the quadratic form, for small steps.

    Below the largest eigenvalue kappa_1 there is a step that pays; above it there is none, so the form is positive. The
    draws mu - 1 and mu + 1 have the right first two moments, which is all that counts to this order.
    """
    generator = np.random.default_rng(0)
    x = 0.5 + generator.normal(0, 0.1, (400, 1)) * [1, 0.8, -0.5, 0.3, 0] + generator.uniform(-0.04, 0.04, (400, 5))
    m = x.mean(0)
    C, S = np.cov(x.T, bias=True), np.diag(m * (1 - m))
    model = CVAE(5, (), 1).double()

    @torch.no_grad()
    def loss(v: np.ndarray, w: np.ndarray, beta: float) -> float:
        model.decoder.body.first.weight.copy_(torch.from_numpy(w[:, None]))
        model.decoder.body.first.bias.copy_(torch.from_numpy(np.log(m / (1 - m))))
        mu = torch.from_numpy((x - m) @ v)[:, None]
        q = Normal(mu, torch.ones_like(mu))
        draws = posterior_draws(model, torch.from_numpy(x), noise=BOTH_WAYS.view(2, 1, 1), posterior=q)
        return Elbo(beta)(draws, 0.0).item()

    step, nothing = 1e-3, np.zeros(5)
    values, vectors = linalg.eigh(C, S)  # the eigenvalues of S^-1/2 C S^-1/2
    best = vectors[:, -1]
    for beta, pays in ((0.7 * values[-1], True), (1.3 * values[-1], False)):
        directions = [(best / beta, best), *generator.normal(size=(20, 2, 5))]
        changes = [(loss(step * v, step * w, beta) - loss(nothing, nothing, beta)) / step**2 for v, w in directions]
        formula = [-v @ C @ w + 0.5 * w @ S @ w + 0.5 * beta * v @ C @ v for v, w in directions]
        np.testing.assert_allclose(changes, formula, rtol=1e-3, atol=1e-4)
        assert (changes[0] < 0) is pays
        whole = np.block([[beta * C, -C], [-C, S]])
        assert (np.linalg.eigvalsh(whole)[0] < -1e-6) is np.bool_(pays)
