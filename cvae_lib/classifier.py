"""A classifier by Bayes' rule: how probable does the conditional model find an image under each label?"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cvae_lib.loss import (
    elbo,
    elbo_terms,
    importance_weighted_bound,
    log_likelihood_by_quadrature,
    posterior_draws,
)
from cvae_lib.model import CVAE

BOUNDS = ("elbo", "importance_weighted", "reconstruction", "quadrature")
CHUNK = 2**22  # pixels decoded at a time; a few arrays of this many floats exist at once


class GenerativeClassifier:
    """Classify images with a conditional model that was never trained to do it.

        p(y | x) = p(x | y) p(y) / sum_c p(x | c) p(c),    log p(x | y) by one of four scores:

    elbo: E_q[log p(x | z, y)] - KL(q(z | x, y) || p(z)), K draws and the closed-form KL; a lower bound.
    importance_weighted: log of the mean of K importance weights; a lower bound, tighter with K.
    reconstruction: E_q[log p(x | z, y)] with K draws, without the KL; bounds nothing, and may exceed log p(x | y).
    quadrature: log p(x | y) itself, for a code of two dimensions; needs no draws.

    It follows scikit-learn: `classes_`, `predict`, `predict_proba`, `predict_log_proba`, `score`; there is no
    `fit`, since the model is already trained. On grey pixels with the Bernoulli likelihood all four
    scores are pseudo-likelihoods (see `Decoder`), and so p(y | x) is Bayes' rule on a pseudo-likelihood.

    The noise of an image is computed from its pixels and the seed, and serves all labels. So the scores of
    an image depend, up to rounding, neither on how the work is cut into chunks, nor on the other images asked
    for, nor on their order; and the errors of different images are independent, so that a standard
    error over images is the usual one.

    Args:
        model: a `CVAE` with labels.
        bound: "elbo", "importance_weighted", "reconstruction" or "quadrature".
        num_samples: K, at least 1; quadrature does not use it.
        seed: of the noise, 0 or above, below 2**32.
        prior: p(y), one probability per label, adding up to 1; uniform if left out.

    Raises:
        ValueError: an argument is none of the above, or bound and model do not go together.

    Equations: (9.1), (9.2)
    """

    def __init__(
        self,
        model: CVAE,
        bound: str = "elbo",
        num_samples: int = 1,
        seed: int = 0,
        prior: Sequence[float] | Tensor | None = None,
    ) -> None:
        if model.num_labels == 0:
            raise ValueError("A generative classifier needs a model with labels; this one has num_labels=0.")
        if bound not in BOUNDS:
            raise ValueError(f"Unknown bound {bound!r}; known: {', '.join(BOUNDS)}.")
        if bound == "quadrature" and model.latent_dim != 2:
            raise ValueError(f"Quadrature needs a code of two dimensions; this model has {model.latent_dim}.")
        if num_samples < 1 or not 0 <= seed < 2**32:
            raise ValueError(
                f"num_samples must be at least 1 and seed from 0 to 2**32 - 1; got {num_samples=}, {seed=}."
            )
        labels = model.num_labels
        p = torch.full((labels,), 1 / labels) if prior is None else torch.as_tensor(prior, dtype=torch.float64)
        if p.shape != (labels,) or not (p >= 0).all() or not math.isclose(p.sum(), 1, abs_tol=1e-6):
            raise ValueError(f"prior must hold {labels} probabilities that add up to 1; got {prior}.")
        self.model, self.bound, self.num_samples, self.seed = model, bound, num_samples, seed
        self.log_prior = p.double().log().to(model.device)
        self.classes_ = np.arange(labels)

    @torch.no_grad()
    def log_likelihood(self, x: ArrayLike | Tensor) -> Tensor:
        """The score chosen by `bound` for every image under every label, in nats, shape (images, labels).

        elbo and importance_weighted: an estimate whose expectation is at most log p(x | y). reconstruction: an
        estimate of E_q[log p(x | z, y)]. quadrature: log p(x | y), see `log_likelihood_by_quadrature`.

        Args:
            x: images, shape (images, pixels), a tensor or an array.

        Raises:
            ValueError: x is no such thing, or its values do not fit the model.

        Equations: (9.4), (9.7), (9.9)
        """
        x = self._images(x)
        self.model.eval()
        labels = torch.arange(len(self.classes_), device=x.device)
        if self.bound == "quadrature":
            return log_likelihood_by_quadrature(self.model, x[:, None], labels)
        samples, images = self._chunk()
        return torch.cat([self._score(chunk, labels, samples) for chunk in x.split(images)])

    def predict_log_proba(self, x: ArrayLike | Tensor) -> NDArray[np.float64]:
        """log p(y | x), shape (images, labels): log-likelihood plus log prior, normalised by log-sum-exp.

        Equations: (9.1), (9.3)
        """
        log_joint = self.log_likelihood(x).double() + self.log_prior
        return log_joint.log_softmax(-1).cpu().numpy()

    def predict_proba(self, x: ArrayLike | Tensor) -> NDArray[np.float64]:
        """p(y | x), shape (images, labels); rows add up to 1."""
        return np.exp(self.predict_log_proba(x))

    def predict(self, x: ArrayLike | Tensor) -> NDArray[np.int64]:
        """The label of largest p(y | x) for each image, shape (images,).

        Equations: (9.2)
        """
        return self.classes_[self.predict_log_proba(x).argmax(-1)]  # type: ignore[no-any-return]

    def score(self, x: ArrayLike | Tensor, y: ArrayLike | Tensor) -> float:
        """Accuracy: the share of images whose predicted label is y.

        Raises:
            ValueError: y has not one label per image.
        """
        y = np.asarray(y)
        if y.shape != (len(self._images(x)),):
            raise ValueError(f"score() needs one label per image; got labels of shape {y.shape}.")
        return float((self.predict(x) == y).mean())

    def _images(self, x: ArrayLike | Tensor) -> Tensor:
        try:
            images = torch.as_tensor(x, dtype=torch.float32, device=self.model.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"Images must be an array of numbers: {error}") from error
        if images.dim() != 2:
            raise ValueError(f"Images must have shape (images, {self.model.pixels}); got {tuple(images.shape)}.")
        self.model.check_images(images)
        return images

    def _chunk(self) -> tuple[int, int]:
        """How many samples and how many images to decode at a time, under all labels, so that memory stays flat."""
        one = len(self.classes_) * self.model.pixels
        samples = min(self.num_samples, max(1, CHUNK // one))
        return samples, max(1, CHUNK // (one * samples))

    def _noise(self, x: Tensor) -> Tensor:
        """Standard normal draws (K, images, 1, latent_dim), from each image's bytes and the seed."""
        shape = (self.num_samples, self.model.latent_dim)
        generator = torch.Generator()
        seeds = (zlib.crc32(image.tobytes(), self.seed) for image in x.cpu().numpy())
        draws = [torch.randn(shape, generator=generator.manual_seed(seed)) for seed in seeds]
        return torch.stack(draws, 1)[:, :, None].to(x.device)

    def _score(self, x: Tensor, labels: Tensor, samples: int) -> Tensor:
        """The score of a few images (images, labels), with the K draws taken `samples` at a time."""
        x, parts = x[:, None], self._noise(x).split(samples)
        if self.bound == "importance_weighted":
            log_sums = [
                importance_weighted_bound(self.model, x, labels, noise=part) + math.log(len(part)) for part in parts
            ]
            return torch.stack(log_sums).logsumexp(0) - math.log(self.num_samples)
        sums = [len(part) * self._mean(x, labels, part) for part in parts]
        return torch.stack(sums).sum(0) / self.num_samples

    def _mean(self, x: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        if self.bound == "elbo":
            return elbo(self.model, x, labels, noise=noise)
        return -elbo_terms(self.model, x, labels, noise=noise).reconstruction


@torch.no_grad()
def scores_by_draws(model: CVAE, x: Tensor, num_samples: Sequence[int], seed: int = 0) -> dict[tuple[str, int], Tensor]:
    """The scores of `GenerativeClassifier` by every bound that needs draws and for several K, from the same draws.

    Decoding is what takes the time, and here every draw is decoded once: the scores with K draws use the first K of the
    draws for the largest K. These are not quite the draws for a smaller largest K, since torch fills both otherwise.

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, pixels).
        num_samples: the values of K, each at least 1.
        seed: of the noise, see `GenerativeClassifier`.

    Returns:
        Scores in nats, (images, labels), by ("reconstruction", K), ("elbo", K) and ("importance_weighted", K).

    Raises:
        ValueError: an argument is none of the above.

    Equations: (9.4), (9.7)
    """
    if not num_samples or min(num_samples) < 1:
        raise ValueError(f"num_samples must hold numbers of draws, each at least 1; got {tuple(num_samples)}.")
    classifier = GenerativeClassifier(model, num_samples=max(num_samples), seed=seed)
    labels = torch.arange(model.num_labels, device=model.device)
    x = classifier._images(x)
    bounds = ("reconstruction", "elbo", "importance_weighted")
    # Small results kept between large passing arrays would leave holes in memory; so there is room for them first.
    tables = {(bound, K): x.new_empty(len(x), len(labels)) for K in num_samples for bound in bounds}
    size = max(1, CHUNK // (model.num_labels * model.pixels * max(num_samples)))
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        draws = posterior_draws(model, chunk[:, None], labels, noise=classifier._noise(chunk))
        kl, log_weights = draws.kl.sum(-1), draws.log_weights
        for K in num_samples:
            reconstruction = draws.log_likelihood[:K].mean(0)
            tighter = log_weights[:K].logsumexp(0) - math.log(K)
            for bound, scores in zip(bounds, (reconstruction, reconstruction - kl, tighter), strict=True):
                tables[bound, K][start : start + size] = scores
    return tables
