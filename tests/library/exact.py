"""A conditional VAE in which everything is known in closed form, for tests of bounds."""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from cvae_lib import CVAE, Decoder
from cvae_lib.likelihoods import Likelihood
from cvae_lib.networks import MLP


class AffineLikelihood(Likelihood):
    """N(logit, s^2): `GaussianLikelihood` without the sigmoid."""

    low, high = -torch.inf, torch.inf

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s

    def forward(self, logits: Tensor) -> Normal:
        """Logits to p(x | z)."""
        return Normal(logits, self.s, validate_args=False)

    def slope(self, logits: Tensor) -> Tensor:
        """b(z) = mean / s^2."""
        return logits / self.s**2

    def base(self, x: Tensor) -> Tensor:
        """h(x) = -|x|^2 / (2 s^2)."""
        return -(x**2).sum(-1) / (2 * self.s**2)


class LinearGaussian(CVAE):
    """z ~ N(0, I), x | z, y ~ N(W z + b_y, s^2 I), float64; the encoder's means are affine in x and its widths fixed.

    log p(x | y), the posterior, the ELBO and the divergence between posterior and encoder are written here with
    matrices, from the weights alone.
    """

    def __init__(self, latent_dim: int = 1, pixels: int = 3, num_labels: int = 2, s: float = 0.7) -> None:
        super().__init__(pixels, (), latent_dim, num_labels, likelihood="gaussian", sigma_G=s)
        self.decoder = Decoder(MLP((latent_dim, pixels), num_labels), AffineLikelihood(s))
        self.s = s
        self.double().requires_grad_(True)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 2)
            self.encoder.body.first.weight[latent_dim:] = 0  # log-variance does not depend on x

    @property
    def w(self) -> Tensor:
        """W, shape (pixels, latent_dim)."""
        return self.decoder.body.first.weight

    def offset(self, y: Tensor) -> Tensor:
        """b_y, shape (..., pixels)."""
        return self.decoder.body.label_bias(y)

    def marginal(self, y: Tensor) -> MultivariateNormal:
        """p(x | y) = N(b_y, W W' + s^2 I)."""
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(self.pixels, dtype=torch.float64)
        return MultivariateNormal(self.offset(y), covariance)

    def posterior(self, x: Tensor, y: Tensor) -> MultivariateNormal:
        """p(z | x, y): precision I + W' W / s^2, mean covariance W' (x - b_y) / s^2."""
        precision = torch.eye(self.latent_dim, dtype=torch.float64) + self.w.T @ self.w / self.s**2
        mean = torch.linalg.solve(precision, ((x - self.offset(y)) @ self.w / self.s**2)[..., None])[..., 0]
        return MultivariateNormal(mean, precision_matrix=precision)

    def proposal(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x, y), from the encoder's weights."""
        first, bias = self.encoder.body.first.weight, self.encoder.body.label_bias(y)
        mean, log_variance = (x @ first.T + bias).chunk(2, -1)
        return mean, torch.exp(log_variance / 2)

    def elbo(self, x: Tensor, y: Tensor) -> Tensor:
        """The ELBO, with its expectation taken by hand."""
        mean, sd = self.proposal(x, y)
        error = (x - mean @ self.w.T - self.offset(y)).square().sum(-1) + (sd**2 @ self.w.T.square()).sum(-1)
        expected = -error / (2 * self.s**2) - self.pixels * torch.log(torch.tensor(2 * torch.pi).sqrt() * self.s)
        return expected - 0.5 * (mean**2 + sd**2 - 2 * torch.log(sd) - 1).sum(-1)

    def divergence(self, x: Tensor, y: Tensor) -> Tensor:
        """KL(q(z | x, y) || p(z | x, y)), by the general formula for two Gaussians."""
        (mean, sd), p = self.proposal(x, y), self.posterior(x, y)
        shift = (mean - p.mean)[..., None]
        square = (shift.mT @ p.precision_matrix @ shift)[..., 0, 0]
        trace = (p.precision_matrix.diagonal(dim1=-2, dim2=-1) * sd**2).sum(-1)
        return 0.5 * (trace + square - self.latent_dim + torch.logdet(p.covariance_matrix) - 2 * torch.log(sd).sum(-1))

    @torch.no_grad()
    def make_encoder_exact(self) -> None:
        """Set the encoder's weights so that q is the posterior (with one latent dimension)."""
        variance = self.posterior(torch.zeros(self.pixels, dtype=torch.float64), torch.tensor(0)).variance
        first, bias = self.encoder.body.first, self.encoder.body.label_bias.weight
        gain = variance * self.w.T / self.s**2
        first.weight[:1], first.weight[1:] = gain, 0
        bias[:, :1], bias[:, 1:] = -self.decoder.body.label_bias.weight @ gain.T, variance.log()
