"""Variational autoencoders, conditional VAEs and the generative classifier inside them."""

from cvae_lib.classifier import GenerativeClassifier
from cvae_lib.data import DataError, ImageSet, dataset_name, load
from cvae_lib.loss import (
    ElboTerms,
    PosteriorDraws,
    elbo,
    elbo_terms,
    importance_weighted_bound,
    log_likelihood_by_quadrature,
    posterior_draws,
)
from cvae_lib.model import CVAE, Decoder, Encoder, pretrained_names
from cvae_lib.train import Epoch, History, estimate_log_likelihood, evaluate, fit

__version__ = "0.1.0"
__all__ = [
    "CVAE",
    "DataError",
    "Decoder",
    "ElboTerms",
    "Encoder",
    "Epoch",
    "GenerativeClassifier",
    "History",
    "ImageSet",
    "PosteriorDraws",
    "dataset_name",
    "elbo",
    "elbo_terms",
    "estimate_log_likelihood",
    "evaluate",
    "fit",
    "importance_weighted_bound",
    "load",
    "log_likelihood_by_quadrature",
    "posterior_draws",
    "pretrained_names",
]
