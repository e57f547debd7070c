"""Equations of chapters 6, 7, 9 and 10 against mixtures in torch, enumeration, linear programmes and plain numpy."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from scipy import optimize, stats
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.distributions import kl_divergence as kl
from toys import spread_out

from cvae_lib import GenerativeClassifier, elbo, elbo_terms, log_likelihood_by_quadrature, posterior_draws
from cvae_lib.likelihoods import BernoulliLikelihood

BOTH_WAYS = torch.tensor([-1.0, 1.0], dtype=torch.float64)


@pytest.fixture
def known() -> LinearGaussian:
    """Two latent dimensions, four pixels, three labels; p(x | y) is a Gaussian."""
    torch.manual_seed(0)
    return LinearGaussian(latent_dim=2, pixels=4, num_labels=3).requires_grad_(False)


def marginals(model: LinearGaussian) -> MultivariateNormal:
    """p(x | y) for all labels, by matrices."""
    labels = torch.arange(model.num_labels)
    covariance = model.marginal(torch.tensor(0)).covariance_matrix
    return MultivariateNormal(model.offset(labels), covariance.expand(model.num_labels, -1, -1))


@pytest.fixture
def x(known: LinearGaussian) -> Tensor:
    """Twelve images, four of each label."""
    torch.manual_seed(1)
    return marginals(known).sample((4,)).flatten(0, 1)


# ---- Chapter 6 ----


def test_the_signal_to_noise_of_gradients_of_the_importance_weighted_bound() -> None:
    """(6.8): from 32 draws to 512, the decoder's ratio rises about fourfold, the encoder's falls about fourfold.

    The library's bound of one image, 16,000 gradients; the two powers of K are held to 0.1. The q is wider than the
    encoder's, for weights of moderate variance.
    """
    torch.manual_seed(0)
    model = LinearGaussian().requires_grad_(False)
    x, y = torch.tensor([0.9, -0.8, 0.1], dtype=torch.float64).expand(2_000, -1), torch.tensor(1)
    ratios = {}
    for K in (32, 512):
        found = []
        for _ in range(8):
            # One copy of a parameter for each gradient: a shift of the image is one of the decoder's offsets.
            shift = torch.zeros_like(x, requires_grad=True)
            mean = torch.zeros(len(x), 1, dtype=torch.float64, requires_grad=True)
            q = model.encode(x, y)
            draws = posterior_draws(model, x - shift, y, K, posterior=Normal(q.loc + mean, 1.5 * q.scale))
            found.append([part[:, 0] for part in torch.autograd.grad(draws.bound.sum(), (shift, mean))])
        gradients = [torch.cat(parts) for parts in zip(*found, strict=True)]
        ratios[K] = [(gradient.mean().abs() / gradient.std()).item() for gradient in gradients]
    powers = [math.log(after / before) / math.log(16) for before, after in zip(ratios[32], ratios[512], strict=True)]
    assert powers == pytest.approx([0.5, -0.5], abs=0.1), ratios


def test_a_mixture_with_noise_costs_at_most_the_logarithm_of_its_share() -> None:
    """(6.9) by torch's mixture of two products of coins: the log-likelihood falls by log 100 at most.

    16 pixels in place of 784; at an image that the model knows the second part adds nothing, at others it lifts it.
    """
    probs = torch.stack([torch.linspace(0.02, 0.98, 16), torch.full((16,), 0.5)]).double()
    coins = torch.distributions.Independent(torch.distributions.Bernoulli(probs), 1)
    mixture = MixtureSameFamily(Categorical(torch.tensor([0.01, 0.99]).double()), coins)
    images = torch.stack([(probs[0] > 0.5).double(), (probs[0] < 0.5).double()])
    log_p, log_noisy = coins.log_prob(images[:, None])[:, 0], mixture.log_prob(images)
    torch.testing.assert_close(log_noisy, torch.log(0.01 * log_p.exp() + 0.99 * 2.0**-16))
    assert (log_noisy >= log_p - math.log(100)).all()
    assert log_noisy[1] > log_p[1] + 10, "no model fears the worst image any more"


# ---- Chapter 7 ----


def test_a_label_is_worth_what_bayes_says(known: LinearGaussian, x: Tensor) -> None:
    """(7.5), (7.6) and (10.5): the classifier's table of log p(x | y) and its posterior, against torch's mixture.

    The library by quadrature over the plane; the mixture of the exact Gaussians knows nothing of it.
    """
    mixture = MixtureSameFamily(Categorical(torch.ones(3).double()), marginals(known))
    classifier = GenerativeClassifier(copy.deepcopy(known).float(), "quadrature")
    table = torch.as_tensor(classifier.log_likelihood(x.float())).double()
    log_p_mix = table.logsumexp(-1) - math.log(3)
    torch.testing.assert_close(log_p_mix, mixture.log_prob(x), atol=1e-3, rtol=0)
    told = table - log_p_mix[:, None]
    log_p_y = torch.as_tensor(classifier.fit(x, torch.arange(12) % 3).predict_log_proba(x.float()))
    torch.testing.assert_close(told, math.log(3) + log_p_y, atol=1e-5, rtol=0)
    assert told.max() <= math.log(3) + 1e-9
    assert told.max() > 0.5 * math.log(3), "the labels say too little for a test"


def test_the_ledger_between_a_model_with_and_one_without_labels(known: LinearGaussian, x: Tensor) -> None:
    """(7.7): losses by the library without noise; the three parts from exact likelihoods and exact divergences."""
    plain, y, none = LinearGaussian(2, 4, num_labels=1, s=0.9), torch.arange(12) % 3, torch.tensor(0)
    noise = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2))).double()[:, None]  # exact for quadratics
    difference = elbo(known, x, y, noise=noise) - elbo(plain, x, none, noise=noise)
    mixture = MixtureSameFamily(Categorical(torch.ones(3).double()), marginals(known)).log_prob(x)
    log_p, log_p_plain = known.marginal(y).log_prob(x), plain.marginal(none).log_prob(x)
    tighter = plain.divergence(x, none) - known.divergence(x, y)
    parts = torch.stack([log_p - mixture, mixture - log_p_plain, tighter])
    assert (parts.abs().mean(1) > 0.1).all()
    torch.testing.assert_close(difference, parts.sum(0), atol=1e-5, rtol=0)


def test_all_codes_of_a_label_together_are_the_prior() -> None:
    """(7.8): images of the model, encoded by the exact posterior, give standard normal codes; under a wrong label not.

    Kolmogorov and Smirnov on 20,000 codes of the library's encoder.
    """
    torch.manual_seed(0)
    model = LinearGaussian().requires_grad_(False)
    model.make_encoder_exact()
    images = model.marginal(torch.tensor(1)).sample((20_000,))
    codes = {label: model.encode(images, torch.tensor(label)).sample()[:, 0].numpy() for label in (0, 1)}
    assert stats.kstest(codes[1], "norm").pvalue > 0.01
    assert stats.kstest(codes[0], "norm").pvalue < 1e-9


@pytest.mark.parametrize("sharpness", [1.0, 0.3, 3.0])
def test_a_reader_of_labels_bounds_the_information_in_the_code(sharpness: float) -> None:
    """(7.9) for three Gaussian codes by quadrature: the exact reader attains I(z; y), a blunt or bold one does not."""
    z = np.linspace(-15, 15, 20_001)
    p_y, p_z = np.array([0.5, 0.3, 0.2]), stats.norm.pdf(z, np.array([[-1.5], [0.0], [2.0]]), 1)
    joint = p_y[:, None] * p_z
    marginal = joint.sum(0)
    information = np.trapezoid((joint * np.log(p_z / marginal)).sum(0), z)
    reader = (joint / marginal) ** sharpness
    reader /= reader.sum(0)
    bound = stats.entropy(p_y) + np.trapezoid((joint * np.log(reader)).sum(0), z)
    assert information > 0.3
    if sharpness == 1:
        assert bound == pytest.approx(information, abs=1e-9)
    else:
        assert bound < information - 0.02


# ---- Chapter 9 ----


def test_the_classifier_takes_the_label_of_the_largest_joint_probability(known: LinearGaussian, x: Tensor) -> None:
    """(9.2) with a prior that is far from even; the exact Gaussians in scipy say the same of every image.

    Without log p(y) some images would get another label.
    """
    prior = [0.9, 0.02, 0.08]
    exact = marginals(known)
    each = zip(exact.mean, exact.covariance_matrix, strict=True)
    log_p = np.stack([stats.multivariate_normal(mean, covariance).logpdf(x) for mean, covariance in each], -1)
    classifier = GenerativeClassifier(known.float(), "quadrature", prior=prior).fit(x, torch.arange(12) % 3)
    expected = (log_p + np.log(prior)).argmax(-1)
    np.testing.assert_array_equal(classifier.predict(x.float()), expected)
    assert (expected != log_p.argmax(-1)).any()


def test_the_standard_error_of_a_paired_difference() -> None:
    """(9.10): from two counts of disagreements, numpy's standard deviation of the differences over root n."""
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 500)) < [[0.9], [0.8]]
    only_first, only_second, n = (first & ~second).sum(), (~first & second).sum(), 500
    difference = first.astype(float) - second
    delta = (only_first - only_second) / n
    assert delta == pytest.approx(difference.mean(), abs=1e-12)
    error = math.sqrt(only_first + only_second - n * delta**2) / n
    assert error == pytest.approx(difference.std() / math.sqrt(n), rel=1e-12)


def all_coins(image: Tensor) -> tuple[Tensor, Tensor]:
    """Every black and white image, and how probable it is that coins with these grey values show it."""
    coins = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(image))), dtype=torch.float64)
    return coins, (image * coins + (1 - image) * (1 - coins)).prod(-1)


GREY = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0, 0.4], dtype=torch.float64)


def test_the_cross_entropy_is_the_average_over_coins() -> None:
    """(9.13): the library's log-probability of a grey image, against all 64 images that the coins can show."""
    model = spread_out(num_labels=2).requires_grad_(False)
    likelihood = model.decode(torch.tensor([0.4, -0.9], dtype=torch.float64), 1)
    coins, weights = all_coins(GREY)
    expected = (weights * likelihood.log_prob(coins).sum(-1)).sum()
    torch.testing.assert_close(likelihood.log_prob(GREY).sum(), expected)


def test_the_pseudo_likelihood_lies_between_two_bounds() -> None:
    """(9.15): ELBO of the grey image, its pseudo-likelihood, and the average log-likelihood over all 64 coins' images.

    Likelihoods by quadrature, the ELBO by 20,000 draws, which know it to 0.02 nats; both steps are larger.
    """
    model, y = spread_out(num_labels=2).requires_grad_(False), torch.tensor(1)
    coins, weights = all_coins(GREY)
    pseudo = log_likelihood_by_quadrature(model, GREY, y).item()
    average = (weights * log_likelihood_by_quadrature(model, coins, y)).sum().item()
    torch.manual_seed(0)
    bound = elbo(model, GREY, y, num_samples=20_000).item()
    assert bound + 0.05 < pseudo < average - 0.05


# ---- Chapter 10 ----


def test_both_terms_add_up_under_every_label() -> None:
    """(10.1): the reconstruction prefers y to c by the margin of the ELBOs plus the difference of the two prices.

    Prices by torch's divergence, ELBOs by hand with matrices; with the sign of the prices turned it fails.
    """
    model = LinearGaussian(num_labels=2)
    x, labels = torch.tensor([[0.3, -0.8, 0.1], [1.2, 0.4, -0.5]], dtype=torch.float64), torch.arange(2)
    r = -elbo_terms(model, x[:, None], labels, noise=BOTH_WAYS.view(2, 1, 1, 1)).reconstruction
    price = kl(model.encode(x[:, None], labels), model.prior).sum(-1)
    bound = torch.stack([model.elbo(x, label.expand(2)) for label in labels], -1)
    assert (price[:, 0] - price[:, 1]).abs().min() > 0.01
    expected = bound[:, 0] - bound[:, 1] + price[:, 0] - price[:, 1]
    torch.testing.assert_close(r[:, 0] - r[:, 1], expected, atol=1e-6, rtol=0)


def test_the_best_temperature_is_the_one_that_made_the_labels() -> None:
    """(10.3): labels are drawn from scores divided by 2.5; scipy's minimiser of the average log-loss finds 2.5.

    The expectation over labels is exact, so there is no noise; multiplying in place of dividing would give 0.4.
    """
    scores = torch.from_numpy(np.random.default_rng(0).normal(0, 6, (200, 5)))
    truth = (scores / 2.5).softmax(-1)

    def loss(T: float) -> float:
        return -(truth * (scores / T).log_softmax(-1)).sum(-1).mean().item()

    found = optimize.minimize_scalar(loss, bounds=(0.2, 20), method="bounded", options={"xatol": 1e-8})
    assert found.x == pytest.approx(2.5, abs=1e-4)


def test_no_decoder_beats_one_that_hits_every_grey_value() -> None:
    """(10.6): the library's Bernoulli likelihood of a grey image, against scipy's entropy of its coins."""
    grey = GREY.clamp(1e-6, 1 - 1e-6)
    ceiling = -sum(stats.entropy([value, 1 - value]) for value in grey.tolist())
    likelihood = BernoulliLikelihood()
    assert likelihood(grey.logit()).log_prob(grey).sum().item() == pytest.approx(ceiling, abs=1e-9)
    torch.manual_seed(0)
    others = likelihood(grey.logit() + torch.randn(1000, 6).double()).log_prob(grey).sum(-1)
    assert others.max() < ceiling


def test_the_smallest_change_that_takes_a_margin_away() -> None:
    """(10.7) for logits that are linear in the image: scipy's linear programme, and its minimiser for the length.

    The dual norm is easily taken for the norm itself: then both bounds are wrong by more than a half.
    """
    a, margin = np.array([0.5, -2.0, 1.0, 0.1]), 1.7  # a_c - a_y
    rows = np.block([[np.eye(4), -np.ones((4, 1))], [-np.eye(4), -np.ones((4, 1))], [-a[None], np.zeros((1, 1))]])
    limits = [*[0] * 8, -margin]
    largest = optimize.linprog([0, 0, 0, 0, 1], rows, limits, bounds=[(None, None)] * 5)
    assert largest.fun == pytest.approx(margin / np.abs(a).sum(), rel=1e-6)
    enough = {"type": "ineq", "fun": lambda change: a @ change - margin}
    shortest = optimize.minimize(lambda change: change @ change, np.ones(4), constraints=enough)
    assert math.sqrt(shortest.fun) == pytest.approx(margin / np.linalg.norm(a), rel=1e-4)
