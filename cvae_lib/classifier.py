"""A classifier by Bayes' rule: how probable does the conditional model find an image under each label?"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data
from torch import Tensor

from cvae_lib.checks import check_known
from cvae_lib.data import ImageSet, as_array
from cvae_lib.loss import BOUNDS
from cvae_lib.model import CVAE
from cvae_lib.quadrature import log_likelihood_by_quadrature
from cvae_lib.scores import scores_by_draws
from cvae_lib.train import fit


class GenerativeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify images with a conditional model that was never trained to do it; a scikit-learn estimator.

        p(y | x) = p(x | y) p(y) / sum_c p(x | c) p(c),    log p(x | y) by one of four scores:

    - elbo, importance_weighted, reconstruction: from K draws under every label, see `BOUNDS`; the first two are lower
      bounds in expectation.
    - quadrature: log p(x | y) itself, for a code of two dimensions; needs no draws.

    On grey pixels with the Bernoulli likelihood all four scores are pseudo-likelihoods (see `BernoulliLikelihood`), and
    so p(y | x) is Bayes' rule on a pseudo-likelihood.

    The noise of an image is computed from its pixels and the seed, and serves all labels. So the scores of
    an image depend, up to rounding, neither on how the work is cut into chunks, nor on the other images asked
    for, nor on their order; and the errors of different images are independent, so that a standard
    error over images is the usual one.

    Args:
        model: a trained `CVAE` with labels: then the classifier is ready, and `fit` only learns what its labels
            0, 1, ... are called, in sorted order. None: `fit` trains one.
        bound: "elbo", "importance_weighted", "reconstruction" or "quadrature".
        num_samples: K, at least 1; quadrature does not use it.
        random_state: seed of the noise, and of a training; from 0 to 2**32 - 1.
        prior: p(y), one probability per label, adding up to 1; uniform if left out.
        hidden_sizes, latent_dim: of the model that `fit` trains, see `CVAE`.
        epochs: of that training. Images whose values go beyond 1 are divided by the largest one.

    Attributes:
        classes_: what the labels are called.
        model_: the model in use.

    Raises:
        ValueError: from `fit` and whatever is asked of it: an argument is none of the above, or does not fit the model.

    Equations: (9.1), (9.2)
    """

    def __init__(
        self,
        model: CVAE | None = None,
        bound: str = "elbo",
        num_samples: int = 1,
        random_state: int = 0,
        prior: Sequence[float] | Tensor | None = None,
        *,
        hidden_sizes: Sequence[int] = (512, 256),
        latent_dim: int = 16,
        epochs: int = 50,
    ) -> None:
        self.model, self.bound, self.num_samples, self.random_state = model, bound, num_samples, random_state
        self.prior, self.hidden_sizes, self.latent_dim, self.epochs = prior, hidden_sizes, latent_dim, epochs

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Self:
        """Train a model on images and labels, or only learn the labels of the one given.

        Args:
            X: images, shape (images, pixels) or (images, ..., height, width), an array, a tensor or a data frame.
            y: their labels, shape (images,), numbers or names.

        Raises:
            ValueError: X or y is no such thing, or the model has another number of labels.
        """
        x, y = validate_data(self, as_array(X), y, dtype=np.float32)
        check_classification_targets(y)
        self._classes, labels = np.unique(y, return_inverse=True)
        if self.model is not None:
            self.model.check_images(torch.from_numpy(x))
            if self.model.num_labels != len(self._classes):
                raise ValueError(f"The model has {self.model.num_labels} labels; y has {len(self._classes)}.")
        elif len(self._classes) < 2:
            raise ValueError(f"A classifier needs at least 2 classes; y has only one class, {self._classes[0]}.")
        else:
            check_non_negative(x, "GenerativeClassifier.fit")
            self._largest = max(1.0, x.max())
            data = ImageSet(torch.from_numpy(x / self._largest), torch.from_numpy(labels), "the images given to fit")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.random_state)
                self._model = CVAE(x.shape[1], self.hidden_sizes, self.latent_dim, len(self._classes))
            fit(self._model, data, epochs=self.epochs, seed=self.random_state, quiet=True)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self.model is not None or hasattr(self, "_model")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    @property
    def model_(self) -> CVAE:
        """The model in use, the one given, or the one that `fit` trained."""
        check_is_fitted(self)
        return self._model if self.model is None else self.model

    @property
    def classes_(self) -> NDArray[Any]:
        """What the labels 0, 1, ... of the model are called."""
        return self._classes if hasattr(self, "_classes") else np.arange(self.model_.num_labels)

    @property
    def log_prior(self) -> Tensor:
        """log p(y), shape (labels,), float64."""
        labels = self.model_.num_labels
        p = torch.as_tensor([1 / labels] * labels if self.prior is None else self.prior, dtype=torch.float64)
        if p.shape != (labels,) or not (p >= 0).all() or not (p.sum() - 1).abs() < 1e-6:
            raise ValueError(f"prior must hold {labels} probabilities that add up to 1; got {self.prior}.")
        return p.log().to(self.model_.device)

    def log_likelihood(self, X: ArrayLike | Tensor) -> Tensor:
        """The score chosen by `bound` for every image under every label, in nats, shape (images, labels).

        elbo and importance_weighted: an estimate whose expectation is at most log p(x | y). reconstruction: an
        estimate of E_q[log p(x | z, y)]. quadrature: log p(x | y), see `log_likelihood_by_quadrature`.

        Args:
            X: images, see `fit`.

        Raises:
            ValueError: X is no such thing, or its values do not fit the model.

        Equations: (9.4), (9.7), (9.9)
        """
        check_known("bound", self.bound, [*BOUNDS, "quadrature"])
        model = self.model_.eval()
        array = validate_data(self, as_array(X), dtype=np.float32, reset=False)
        x = torch.from_numpy(array / getattr(self, "_largest", 1)).to(model.device)
        if self.bound == "quadrature":
            return log_likelihood_by_quadrature(model, x[:, None], torch.arange(model.num_labels, device=x.device))
        table = scores_by_draws(model, x, (self.num_samples,), seed=self.random_state, bounds=(self.bound,))
        return table[self.bound, self.num_samples]

    def predict_log_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """log p(y | x), shape (images, labels): log-likelihood plus log prior, normalised by log-sum-exp.

        Equations: (9.1), (9.3)
        """
        log_joint = self.log_likelihood(X).double() + self.log_prior
        return log_joint.log_softmax(-1).cpu().numpy()

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """p(y | x), shape (images, labels); rows add up to 1."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """The label of largest p(y | x) for each image, shape (images,).

        Equations: (9.2)
        """
        return self.classes_[self.predict_log_proba(X).argmax(-1)]  # type: ignore[no-any-return]
