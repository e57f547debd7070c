"""The conditional VAE: an encoder q(z | x, y), a decoder p(x | z, y) and a prior p(z).

Both networks return `torch.distributions` objects, so sampling, log-densities and the closed-form KL
divergence come from a library that is already right, and code that uses a model reads like the formula.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli

from cvae_lib.networks import ACTIVATIONS, BODIES

WEIGHTS = Path(__file__).parent / "weights"
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian")


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


class ContinuousBernoulli(TorchContinuousBernoulli):
    """torch's continuous Bernoulli, with its density and mean computed from the logits.

        p(x) = exp(logit x - A(logit)) on [0, 1],    A(l) = log((exp(l) - 1) / l),    mean A'(l)

    torch computes both from probabilities, which float32 rounds to 0 or 1: beyond a logit of 16 its density
    no longer integrates to 1.

    Equations: (5.5), (5.6), (9.11)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of values in [0, 1], in nats."""
        logits, near_zero = self.logits, self.logits.abs() < 0.1
        size = torch.where(near_zero, 1.0, logits.abs())
        log_normaliser = logits.relu() + (-(-size).expm1()).log() - size.log()
        return value * logits - torch.where(near_zero, logits / 2 + logits**2 / 24, log_normaliser)

    @property
    def mean(self) -> Tensor:
        """1 / (1 - exp(-logit)) - 1 / logit."""
        near_zero = self.logits.abs() < 0.1
        safe = torch.where(near_zero, 1.0, self.logits)
        return torch.where(near_zero, 0.5 + self.logits / 12, -1 / (-safe).expm1() - 1 / safe)


class Decoder(nn.Module):
    """The likelihood of an image given a code, independent for each pixel.

    bernoulli: p(x_i = 1 | z, y) = sigmoid(logit_i). On grey pixels its `log_prob` is minus the
        cross-entropy, a pseudo-likelihood: not the log of a density on [0, 1], but the expected log-probability
        of the image binarised at random.
    continuous_bernoulli: a density on [0, 1]; its mean is not sigmoid(logit) (Loaiza-Ganem &
        Cunningham, "The continuous Bernoulli", 2019).
    gaussian: N(sigmoid(logit_i), sigma_G^2), sigma_G fixed, or one learned number for all pixels. At its optimum
        the learned one is the root mean squared error of a pixel, over images and posterior draws.

    Equations: (3.2), (3.3), (5.1), (5.2), (5.4)
    """

    def __init__(
        self,
        body: nn.Module,
        likelihood: str = "bernoulli",
        sigma_G: float = 1.0,
        learn_sigma_G: bool = False,
    ) -> None:
        super().__init__()
        self.body, self.likelihood, self.sigma_G = body, likelihood, sigma_G
        self.log_sigma_G = nn.Parameter(torch.tensor(sigma_G).log()) if learn_sigma_G else None

    def forward(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """Codes (..., latent_dim) and labels (...) to p(x | z, y) with batch shape (..., pixels)."""
        logits = _at_least_32_bits(self.body(z, y))
        if self.likelihood == "gaussian":
            sigma_G = self.sigma_G if self.log_sigma_G is None else self.log_sigma_G.exp()
            return Normal(logits.sigmoid(), sigma_G, validate_args=False)
        family = Bernoulli if self.likelihood == "bernoulli" else ContinuousBernoulli
        return family(logits=logits, validate_args=False)


class CVAE(nn.Module):
    """A conditional variational autoencoder; with `num_labels=0` it is the plain VAE.

        p(x | y) = integral of p(x | z, y) p(z) dz,    p(z) = N(0, I),    q(z | x, y) from the encoder

    Args:
        pixels: number of values in an image, D.
        hidden_sizes: widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: dimension J of the code z.
        num_labels: number of labels, 0..num_labels - 1; 0 for a model without labels.
        likelihood: "bernoulli", "continuous_bernoulli" or "gaussian", see `Decoder`.
        sigma_G: standard deviation of the Gaussian likelihood; the others do not use it.
        learn_sigma_G: train sigma_G, starting from this value, with the weights; for the Gaussian likelihood only.
        activation: between the layers, a key of `ACTIVATIONS`.
        body: name of the networks inside, a key of `BODIES`; what hidden_sizes mean is theirs to say.

    Raises:
        ValueError: a size below 1, a likelihood, activation or body that does not exist, or a sigma_G to learn
            without a Gaussian likelihood.

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
        sigma_G: float = 1.0,
        learn_sigma_G: bool = False,
        activation: str = "relu",
        body: str = "mlp",
    ) -> None:
        super().__init__()
        hidden_sizes = tuple(hidden_sizes)
        if min(pixels, latent_dim, *hidden_sizes) < 1 or num_labels < 0 or not sigma_G > 0:
            raise ValueError(
                "Sizes must be at least 1, num_labels at least 0 and sigma_G above 0; got "
                f"{pixels=}, {hidden_sizes=}, {latent_dim=}, {num_labels=}, {sigma_G=}."
            )
        check_known("likelihood", likelihood, LIKELIHOODS)
        check_known("activation", activation, ACTIVATIONS)
        check_known("body", body, BODIES)
        if learn_sigma_G and likelihood != "gaussian":
            raise ValueError(f"learn_sigma_G needs the Gaussian likelihood; got {likelihood=}.")
        self.config: dict[str, Any] = {
            "pixels": pixels,
            "hidden_sizes": hidden_sizes,
            "latent_dim": latent_dim,
            "num_labels": num_labels,
            "likelihood": likelihood,
            "sigma_G": sigma_G,
            "learn_sigma_G": learn_sigma_G,
            "activation": activation,
            "body": body,
        }
        self.pixels, self.latent_dim, self.num_labels, self.likelihood = (
            pixels,
            latent_dim,
            num_labels,
            likelihood,
        )
        encoder_body, decoder_body = BODIES[body]
        self.encoder = Encoder(encoder_body((pixels, *hidden_sizes, 2 * latent_dim), num_labels, activation))
        self.decoder = Decoder(
            decoder_body((latent_dim, *reversed(hidden_sizes), pixels), num_labels, activation),
            likelihood,
            sigma_G,
            learn_sigma_G,
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
        _check_floats("Codes", z, self.latent_dim)
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
        if n < 1:
            raise ValueError(f"sample() draws at least 1 image; got n={n}.")
        if y is not None and torch.as_tensor(y).shape not in {(), (1,), (n,)}:
            raise ValueError(f"Give one label or {n}, one for each image; got shape {tuple(torch.as_tensor(y).shape)}.")
        return self.decode(self.prior.sample((n,)), y).mean

    @torch.no_grad()
    def start_at_mean(self, images: Tensor) -> None:
        """Set the decoder's last bias so that an untrained decoder draws the mean image, nearly.

            bias_i = logit(mean_i),   mean_i between 0.001 and 0.999

        Training then need not spend its first epochs on learning which pixels are always black.

        Args:
            images: the training images, shape (N, pixels).

        Raises:
            ValueError: images do not fit the model, or the decoder has not one last bias for each pixel.

        Source: Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, published code.
        """
        self.check_images(images)
        bias = list(self.decoder.body.parameters())[-1]
        if bias.shape != (self.pixels,):
            raise ValueError("start_at_mean needs a decoder with one last bias for each pixel, such as the body 'mlp'.")
        bias.copy_(images.mean(0).clamp(0.001, 0.999).logit())

    def check_images(self, x: Tensor) -> None:
        """Raise ValueError unless x holds images this model can encode, see `encode`."""
        _check_floats("Images", x, self.pixels)
        low, high = (value.item() for value in x.aminmax())
        if not (low > -torch.inf and high < torch.inf):  # also true for NaN
            raise ValueError("Images must be finite; some values are NaN or infinite.")
        if self.likelihood != "gaussian" and (low < 0 or high > 1):
            raise ValueError(
                f"Images must have values in [0, 1] for the {self.likelihood} likelihood; "
                f"these lie in [{low:g}, {high:g}]."
            )

    def check_labels(self, y: Tensor | int | None, inputs: Tensor) -> Tensor | None:
        """Labels as int64 on the model's device; raise ValueError unless they fit the model and the inputs."""
        if self.num_labels == 0:
            if y is not None:
                raise ValueError("This model has no labels (num_labels=0); leave y out.")
            return None
        if y is None:
            raise ValueError(f"This model is conditional: give y, labels from 0 to {self.num_labels - 1}.")
        y = torch.as_tensor(y, device=self.device)
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"Labels must be integers from 0 to {self.num_labels - 1}; got {y.dtype}.")
        try:
            torch.broadcast_shapes(y.shape, inputs.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"Labels of shape {tuple(y.shape)} do not fit a batch of shape {tuple(inputs.shape[:-1])}."
            ) from None
        if y.numel() == 0 or y.min() < 0 or y.max() >= self.num_labels:
            raise ValueError(f"Labels must be integers from 0 to {self.num_labels - 1}; got {y.unique().tolist()}.")
        return y.long()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `model.safetensors` (weights, as dtype) and `config.json` (the arguments) into folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.to("cpu", dtype).contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "CVAE":
        """A trained model, by the name of weights that come with the package or by the folder they are in.

        Raises:
            ValueError: no such name or folder, or its files are damaged or do not fit each other.
        """
        folder = WEIGHTS / name
        if not (folder / "config.json").is_file():
            folder = Path(name)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"There are no weights named {str(name)!r}, nor a folder of that name with a config.json. "
                f"Known names: {', '.join(pretrained_names())}."
            )
        try:
            model = cls(**json.loads((folder / "config.json").read_text()))
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'config.json'} does not describe a model: {error}") from error
        file = folder / "model.safetensors"
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{file} is missing, truncated or not a safetensors file: {error}") from error
        expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        found = {key: tuple(value.shape) for key, value in weights.items()}
        if found != expected:
            key = next(key for key in expected | found if expected.get(key) != found.get(key))
            raise ValueError(
                f"{file} does not fit its config.json: {key} is {found.get(key)}, expected {expected.get(key)}."
            )
        model.load_state_dict(weights)  # copies into float32
        return model.eval()


def pretrained_names() -> list[str]:
    """The names that `CVAE.from_pretrained` knows."""
    return sorted(config.parent.name for config in WEIGHTS.glob("*/config.json"))


def check_known(what: str, value: str, known: Sequence[str] | dict[str, Any]) -> None:
    """Raise ValueError, with the known ones, unless value is one of them."""
    if value not in known:
        raise ValueError(f"Unknown {what} {value!r}; known: {', '.join(known)}.")


def _at_least_32_bits(values: Tensor) -> Tensor:
    """Under autocast a network computes in 16 bits; densities and their sums over pixels must not."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_floats(what: str, values: Tensor, width: int) -> None:
    if values.dim() == 0 or values.shape[-1] != width:
        raise ValueError(f"{what} must have shape (..., {width}); got {tuple(values.shape)}.")
    if not values.is_floating_point():
        raise ValueError(f"{what} must be floating point; got {values.dtype}.")
    if values.numel() == 0:
        raise ValueError(f"{what} must hold at least one; got the empty shape {tuple(values.shape)}.")
