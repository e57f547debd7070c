"""Variational autoencoders, conditional VAEs and the generative classifier inside them."""

from typing import Any

from cvae_lib.callbacks import Callback, Epoch, History
from cvae_lib.data import DataError, ImageSet, load
from cvae_lib.evaluation import estimate_log_likelihood, evaluate
from cvae_lib.loss import ElboTerms, PosteriorDraws, elbo, elbo_terms, importance_weighted_bound, posterior_draws
from cvae_lib.model import CVAE, Decoder, Encoder
from cvae_lib.pretrained import pretrained_names
from cvae_lib.quadrature import log_likelihood_by_quadrature
from cvae_lib.train import Elbo, ImportanceWeighted, fit, train_step

__version__ = "0.1.0"
__all__ = ["CVAE", "Callback", "DataError", "Decoder", "Elbo", "ElboTerms", "Encoder", "Epoch", "GenerativeClassifier"]
__all__ += ["History", "ImageSet", "ImportanceWeighted", "PosteriorDraws", "elbo", "elbo_terms"]
__all__ += ["estimate_log_likelihood", "evaluate", "fit", "importance_weighted_bound", "load", "train_step"]
__all__ += ["log_likelihood_by_quadrature", "posterior_draws", "pretrained_names"]


def __getattr__(name: str) -> Any:
    """The classifier is imported when it is asked for, since scikit-learn takes longer to import than all the rest."""
    if name == "GenerativeClassifier":
        from cvae_lib.classifier import GenerativeClassifier

        return GenerativeClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
