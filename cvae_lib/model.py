"""The conditional VAE: an encoder q(z | x, y), a decoder p(x | z, y) and a prior p(z).

Both networks return `torch.distributions` objects, so sampling, log-densities and the closed-form KL
divergence come from a library that is already right, and code that uses a model reads like the formula.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from cvae_lib.checks import check_at_least, check_floats, check_known, check_labels, check_range, look_up
from cvae_lib.likelihoods import Likelihood, make_likelihood
from cvae_lib.networks import ACTIVATIONS, BODIES
from cvae_lib.pretrained import Pretrained


class Encoder(nn.Module):
    """The posterior that a network proposes for an image, a Gaussian with a diagonal covariance.

        q(z | x, y) = N(mu(x, y), diag sigma(x, y)^2)

    The network emits mu and log sigma^2, which may be any real numbers.

    Equations: (2.9), (2.11), (3.1)
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, y: Tensor | None = None) -> Normal:
        """Images (..., pixels) and labels (...) to q(z | x, y) with batch shape (..., latent_dim)."""
        mean, log_variance = _at_least_32_bits(self.body(x, y)).chunk(2, dim=-1)
        return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)


class Decoder(nn.Module):
    """The likelihood of an image given a code, independent for each pixel; see `cvae_lib.likelihoods`.

    Equations: (3.2), (3.3), (5.1), (5.2), (5.4)
    """

    def __init__(self, body: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.body, self.likelihood = body, likelihood

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes (..., latent_dim) and labels (...) to what the network emits, (..., pixels)."""
        return _at_least_32_bits(self.body(z, y))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """Codes (..., latent_dim) and labels (...) to p(x | z, y) with batch shape (..., pixels)."""
        return self.likelihood(self.logits(z, y))  # type: ignore[no-any-return]


class CVAE(Pretrained):
    """A conditional variational autoencoder; with `num_labels=0` it is the plain VAE.

        p(x | y) = integral of p(x | z, y) p(z) dz,    p(z) = N(0, I),    q(z | x, y) from the encoder

    Args:
        pixels: number of values in an image, D.
        hidden_sizes: widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: dimension J of the code z.
        num_labels: number of labels, 0..num_labels - 1; 0 for a model without labels.
        likelihood: a key of `LIKELIHOODS`: "bernoulli", "continuous_bernoulli" or "gaussian".
        activation: between the layers, a key of `ACTIVATIONS`.
        body: name of the networks inside, a key of `BODIES`; what hidden_sizes mean is theirs to say.
        likelihood_arguments: of the likelihood, such as sigma_G and learn_sigma_G of the Gaussian.

    Raises:
        ValueError: a size below 1, a likelihood, activation or body that does not exist, or an argument that the
            likelihood does not take.

    Equations: (1.1), (7.1)

    Source: Kingma & Welling, "Auto-Encoding Variational Bayes", 2014; Sohn, Lee & Yan, "Learning Structured
    Output Representation using Deep Conditional Generative Models", 2015.
    """

    def __init__(
        self,
        pixels: int,
        hidden_sizes: Sequence[int] = (512, 256),
        latent_dim: int = 2,
        num_labels: int = 0,
        *,
        likelihood: str = "bernoulli",
        activation: str = "relu",
        body: str = "mlp",
        **likelihood_arguments: Any,
    ) -> None:
        super().__init__()
        check_at_least(1, pixels=pixels, latent_dim=latent_dim, hidden_sizes=min(hidden_sizes, default=1))
        check_at_least(0, num_labels=num_labels)
        check_known("activation", activation, ACTIVATIONS)
        sizes = {"pixels": pixels, "hidden_sizes": tuple(hidden_sizes), "latent_dim": latent_dim}
        names = {"num_labels": num_labels, "likelihood": likelihood, "activation": activation, "body": body}
        self.config = {**sizes, **names, **likelihood_arguments}
        self.pixels, self.latent_dim, self.num_labels = pixels, latent_dim, num_labels
        encoder_body, decoder_body = look_up("body", body, BODIES)
        self.encoder = Encoder(encoder_body((pixels, *hidden_sizes, 2 * latent_dim), num_labels, activation))
        self.decoder = Decoder(
            decoder_body((latent_dim, *reversed(hidden_sizes), pixels), num_labels, activation),
            make_likelihood(likelihood, **likelihood_arguments),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def prior(self) -> Normal:
        """p(z) = N(0, I), batch shape (latent_dim,)."""
        zeros = next(self.parameters()).new_zeros(self.latent_dim)
        return Normal(zeros, torch.ones_like(zeros))

    def encode(self, x: Tensor, y: Tensor | int | None = None) -> Normal:
        """The posterior q(z | x, y).

        Args:
            x: images, shape (..., pixels), floating point; values in [0, 1], or any finite values when the
                likelihood is Gaussian.
            y: integer labels, shape broadcastable with x.shape[:-1]; None for a model without labels.
                `encode(x[:, None], torch.arange(10))` gives every image under every label.

        Returns:
            A `Normal` with the batch shape of x and y broadcast, then latent_dim.

        Raises:
            ValueError: x or y is none of the above; the sentence says what was expected.
        """
        self.check_images(x)
        return self.encoder(x, self.check_labels(y, x))  # type: ignore[no-any-return]

    def decode(self, z: Tensor, y: Tensor | int | None = None) -> Distribution:
        """The likelihood p(x | z, y) of codes z (..., latent_dim), batch shape (..., pixels).

        Raises:
            ValueError: z has another width, or y does not fit the model.
        """
        check_floats("Codes", z, self.latent_dim)
        return self.decoder(z, self.check_labels(y, z))  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | int | None = None) -> Tensor:
        """n new images (n, pixels): the means of p(x | z, y) at n codes drawn from the prior.

        Args:
            n: how many, at least 1.
            y: one label for all, or n labels; None for a model without labels.

        Raises:
            ValueError: n is below 1, or y does not fit the model.
        """
        check_at_least(1, n=n)
        if y is not None and torch.as_tensor(y).shape not in {(), (1,), (n,)}:
            raise ValueError(f"Give one label or {n}, one for each image; got shape {tuple(torch.as_tensor(y).shape)}.")
        return self.decode(self.prior.sample((n,)), y).mean

    def check_images(self, x: Tensor) -> None:
        """Raise ValueError unless x holds images this model can encode, see `encode`."""
        check_floats("Images", x, self.pixels)
        check_range(x, self.decoder.likelihood.low, self.decoder.likelihood.high, self.config["likelihood"])

    def check_labels(self, y: Tensor | int | None, inputs: Tensor) -> Tensor | None:
        """Labels as int64 on the model's device; raise ValueError unless they fit the model and the inputs."""
        return check_labels(y, self.num_labels, inputs.shape[:-1], self.device)


def _at_least_32_bits(values: Tensor) -> Tensor:
    """Under autocast a network computes in 16 bits; densities and their sums over pixels must not."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
