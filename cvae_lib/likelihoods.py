"""The likelihoods p(x | z), and all that depends on which one it is: one class each.

A likelihood turns the decoder's logits into a `torch.distributions` object, and says which pixels it is for. It has the
form

    log p(x | z) = a(z) + b(z) . x + h(x),    h(0) = 0

which lets `quadrature` score many images against many codes by one matrix product. A likelihood of your own is a
subclass in `LIKELIHOODS`; nothing else needs to know.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal, constraints

from cvae_lib.checks import check_positive, look_up


class ContinuousBernoulli(Distribution):
    """The continuous Bernoulli on [0, 1], everything computed from the logit l.

        p(x) = exp(l x - A(l)),    A(l) = log((exp(l) - 1) / l),    mean A'(l),    variance A''(l)

    torch's class of this name computes from probabilities, which float32 rounds to 0 or 1, so that beyond a logit of
    16 its density no longer integrates to 1. Here the logit -l gives the density of 1 - x under l, and no positive
    number is exponentiated. The gradients of `log_prob`, `mean`, `entropy` and of draws pass to the logits.

    Args:
        logits: l, any finite numbers.
        validate_args: whether torch checks arguments and values.

    Equations: (5.5), (5.6), (9.11)

    Source: Loaiza-Ganem & Cunningham, "The continuous Bernoulli", 2019.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (torch's own form)
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def _by_size(self, near_zero: Tensor, elsewhere: Tensor) -> Tensor:
        return torch.where(self.logits.abs() < 0.1, near_zero, elsewhere)

    @property
    def _size(self) -> Tensor:
        """|l|, and 1 where |l| is so small that a series takes over."""
        return self._by_size(torch.ones_like(self.logits), self.logits.abs())

    def _mirror(self, low: Tensor, high: Tensor) -> Tensor:
        """One value for negative logits, another for positive ones."""
        return torch.where(self.logits < 0, low, high)

    @property
    def log_normaliser(self) -> Tensor:
        """A(l)."""
        size = self._size
        exact = self.logits.relu() + (-(-size).expm1()).log() - size.log()
        return self._by_size(self.logits / 2 + self.logits**2 / 24, exact)

    @property
    def mean(self) -> Tensor:
        """1 / (1 - exp(-l)) - 1 / l."""
        high = -1 / (-self._size).expm1() - 1 / self._size
        return self._by_size(0.5 + self.logits / 12, self._mirror(1 - high, high))

    @property
    def variance(self) -> Tensor:
        """1 / l^2 - 1 / (4 sinh^2(l / 2))."""
        size = self._size
        return self._by_size(1 / 12 - self.logits**2 / 240, 1 / size**2 - (-size).exp() / (-size).expm1() ** 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of values in [0, 1], in nats."""
        return value * self.logits - self.log_normaliser

    def cdf(self, value: Tensor) -> Tensor:
        """(exp(l x) - 1) / (exp(l) - 1)."""
        low = (-self._size * self._mirror(value, 1 - value)).expm1() / (-self._size).expm1()
        near_zero = value + self.logits * value * (value - 1) / 2 * (1 + self.logits * (2 * value - 1) / 6)
        return self._by_size(near_zero, self._mirror(low, 1 - low))

    def icdf(self, value: Tensor) -> Tensor:
        """log(1 + u (exp(l) - 1)) / l, for u in [0, 1]."""
        low = -(self._mirror(value, 1 - value) * (-self._size).expm1()).log1p() / self._size
        near_zero = value + self.logits * value * (1 - value) / 2 * (1 + self.logits * (1 - 2 * value) / 3)
        return self._by_size(near_zero, self._mirror(low, 1 - low)).clamp(0, 1)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws, by the inverse of the distribution function."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def entropy(self) -> Tensor:
        """A(l) - l A'(l), in nats; below 0 where the density is narrow."""
        return self.log_normaliser - self.logits * self.mean


class Likelihood(nn.Module):
    """How the decoder's logits become p(x | z), independent for each pixel.

    A subclass has a `forward` from logits (..., pixels) to a `Distribution` with batch shape (..., pixels).
    """

    low, high = 0.0, 1.0
    """The pixels that it is for lie between these."""

    def slope(self, logits: Tensor) -> Tensor:
        """b(z), shape (..., pixels); the logits themselves, unless a likelihood says otherwise."""
        return logits

    def base(self, x: Tensor) -> Tensor:
        """h(x), summed over pixels, shape (...); 0 unless a likelihood says otherwise."""
        return torch.zeros_like(x[..., 0])


class BernoulliLikelihood(Likelihood):
    """p(x_i = 1 | z) = sigmoid(logit_i).

    On grey pixels its `log_prob` is minus the cross-entropy: the expected log-probability of the image made black and
    white at random, not the log of a density on [0, 1].

    Equations: (3.2), (3.3), (5.4)
    """

    def forward(self, logits: Tensor) -> Bernoulli:
        """Logits to p(x | z)."""
        return Bernoulli(logits=logits, validate_args=False)


class ContinuousBernoulliLikelihood(Likelihood):
    """A density on [0, 1], see `ContinuousBernoulli`; its mean is not sigmoid(logit)."""

    def forward(self, logits: Tensor) -> ContinuousBernoulli:
        """Logits to p(x | z)."""
        return ContinuousBernoulli(logits, validate_args=False)


class GaussianLikelihood(Likelihood):
    """N(sigmoid(logit_i), sigma_G^2), for pixels of any finite value.

    At its optimum a learned sigma_G is the root mean squared error of a pixel, over images and posterior draws.

    Args:
        sigma_G: the standard deviation, above 0.
        learn_sigma_G: train it with the weights, as one number for all pixels, starting from this value.

    Raises:
        ValueError: sigma_G is not above 0.

    Equations: (5.1), (5.2)
    """

    low, high = -float("inf"), float("inf")

    def __init__(self, sigma_G: float = 1.0, learn_sigma_G: bool = False) -> None:
        super().__init__()
        check_positive(sigma_G=sigma_G)
        self.fixed_sigma_G = sigma_G
        self.log_sigma_G = nn.Parameter(torch.tensor(float(sigma_G)).log()) if learn_sigma_G else None

    @property
    def sigma_G(self) -> Tensor | float:
        """The standard deviation in use."""
        return self.fixed_sigma_G if self.log_sigma_G is None else self.log_sigma_G.exp()

    def forward(self, logits: Tensor) -> Normal:
        """Logits to p(x | z)."""
        return Normal(logits.sigmoid(), self.sigma_G, validate_args=False)

    def slope(self, logits: Tensor) -> Tensor:
        """m(z) / sigma_G^2."""
        return logits.sigmoid() / self.sigma_G**2

    def base(self, x: Tensor) -> Tensor:
        """`-|x|^2 / (2 sigma_G^2)`."""
        return -0.5 * (x / self.sigma_G).square().sum(-1)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "continuous_bernoulli": ContinuousBernoulliLikelihood,
    "gaussian": GaussianLikelihood,
}
"""The likelihoods by name; what a class takes as arguments `CVAE` takes too, and hands on."""


def make_likelihood(name: str, **arguments: Any) -> Likelihood:
    """The likelihood of that name.

    Raises:
        ValueError: there is none of that name, or it does not take these arguments.
    """
    likelihood: type[Likelihood] = look_up("likelihood", name, LIKELIHOODS)
    try:
        return likelihood(**arguments)
    except TypeError as error:
        raise ValueError(f"The {name} likelihood does not take {', '.join(arguments)}: {error}") from error
