"""log p(x | y) by quadrature, against an exact model, enumeration, another integration rule and many draws."""

import math
from itertools import product

import pytest
import torch
from exact import LinearGaussian
from numpy.polynomial.hermite_e import hermegauss
from toys import spread_out

from cvae_lib import CVAE, importance_weighted_bound, load, log_likelihood_by_quadrature
from cvae_lib.course import dataset_name


def plane(num_labels: int = 3, likelihood: str = "bernoulli") -> CVAE:
    """A model of 6 pixels with a code of two dimensions, its posteriors off the prior."""
    arguments = {"sigma_G": 0.4} if likelihood == "gaussian" else {}
    return spread_out(num_labels, factor=2, likelihood=likelihood, **arguments)


def grey(n: int = 4) -> torch.Tensor:
    return torch.rand(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_quadrature_is_log_p_in_the_exact_model():
    """(1.1), (7.1) for a full-rank Gaussian in four pixels: no other approximation in between."""
    model = LinearGaussian(latent_dim=2, pixels=4)
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = torch.arange(2)
    value = log_likelihood_by_quadrature(model, x[:, None], y)
    torch.testing.assert_close(value, model.marginal(y).log_prob(x[:, None]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_quadrature_agrees_with_gauss_hermite(likelihood):
    """(9.9) by another rule, another order of summation, `log_prob` of the decoder itself; (9.12) on grey pixels."""
    model, x, y = plane(likelihood=likelihood), grey(), torch.tensor([0, 2, 1, 1])
    nodes, weights = (torch.from_numpy(value) for value in hermegauss(60))
    z = torch.cartesian_prod(nodes, nodes)
    log_weight = torch.cartesian_prod(weights, weights).log().sum(-1) - math.log(2 * math.pi)
    with torch.no_grad():
        log_p = model.decode(z[:, None], y).log_prob(x).sum(-1)
    expected = (log_p + log_weight[:, None]).logsumexp(0)
    torch.testing.assert_close(log_likelihood_by_quadrature(model, x, y), expected, atol=2e-3, rtol=0)


def test_on_black_and_white_pixels_the_probabilities_of_all_images_add_up_to_one():
    """Six pixels have 64 images: p(x | y) is a distribution over them, for every label."""
    images = torch.tensor(list(product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    total = log_likelihood_by_quadrature(plane(), images[:, None], torch.arange(3)).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)


def test_on_grey_pixels_the_value_is_at_most_the_expected_log_p_of_the_binarised_image():
    """(9.14), with the expectation over all 64 black-and-white images written out."""
    model, x, y = plane(), grey(), torch.tensor([0, 2, 1, 1])
    binary = torch.tensor(list(product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    probability = (x[:, None] * binary + (1 - x[:, None]) * (1 - binary)).prod(-1)  # (images, 64)
    log_p = log_likelihood_by_quadrature(model, binary[None].expand(4, 64, 6), y[:, None])
    expected = (probability * log_p).sum(-1)
    value = log_likelihood_by_quadrature(model, x, y)
    assert (value < expected).all()


def test_shapes_broadcast_like_those_of_a_bound():
    model, x = plane(), grey()
    table = log_likelihood_by_quadrature(model, x[:, None], torch.arange(3))
    assert table.shape == (4, 3)
    torch.testing.assert_close(log_likelihood_by_quadrature(model, x[2], torch.tensor(1)), table[2, 1])
    y = torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(log_likelihood_by_quadrature(model, x, y), table[torch.arange(4), y])
    assert log_likelihood_by_quadrature(plane(num_labels=0), x).shape == (4,)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (CVAE(6, (8,), 3), {}, "code of two dimensions; this model has 3"),
        (plane(num_labels=0), {"border": 0}, "border must be above 0 and finite; got 0"),
        (plane(num_labels=0), {"spacing": math.nan}, "spacing must be above 0 and finite; got nan"),
        (plane(), {}, "is conditional: give y"),
    ],
)
def test_quadrature_refuses_what_it_cannot_do(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood_by_quadrature(model, grey(), **arguments)


# The shipped weights --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    """Three test images, far apart in the file."""
    return load(dataset_name(), "test").images[10::100][:3]


@pytest.mark.slow
def test_half_the_spacing_and_a_wider_border_change_no_value_by_a_hundredth_of_a_nat(shipped, real):
    """Three real images under all ten labels, nine times out of ten a wrong one."""
    value = log_likelihood_by_quadrature(shipped, real[:, None], torch.arange(10))
    for changed in ({"spacing": 0.0125}, {"border": 12.0}):
        again = log_likelihood_by_quadrature(shipped, real[:, None], torch.arange(10), **changed)
        assert (again - value).abs().max() < 0.01


@pytest.mark.slow
@torch.no_grad()
def test_many_importance_samples_approach_quadrature_from_below(shipped):
    """On ten images the decoder made: two ways to log p(x | y) that share nothing but the decoder.

    Where the posterior has a second peak, which this encoder cannot say, 2,000 draws still miss some of it.
    """
    torch.manual_seed(0)
    y = torch.arange(10)
    x = shipped.sample(10, y)
    value = log_likelihood_by_quadrature(shipped, x, y)
    one, many = (
        torch.stack([importance_weighted_bound(shipped, x, y, k) for _ in range(20)]).mean(0) for k in (1, 2000)
    )
    assert (many < value + 0.05).all()
    assert (value - many).median() < 0.1
    assert (one - value).mean() < (many - value).mean()
