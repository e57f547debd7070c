"""Models between the plane and `cvae-50d`, rung by rung, and what a comparison by one reconstruction has to find."""

import math
from typing import Any

import torch
from torch import Tensor

from cvae_lib.classifier import scores_by_draws
from cvae_lib.course.recipes import RECIPES, Recipe, accuracies, data_of, machine, train_recipe
from cvae_lib.loss import elbo_terms
from cvae_lib.model import CVAE
from cvae_lib.train import seeded

_GREY = {"epochs": 20}
_NETWORK = RECIPES["cvae-50d"].model
_SHORT = RECIPES["cvae-50d"].fit | {"epochs": 20}


def _rung(model: dict[str, Any], arguments: dict[str, Any], **rest: Any) -> Recipe:
    return Recipe(model, arguments, seeds=(0,), split="fit", **rest)


_SMALL = {"pixels": 784, "hidden_sizes": (512, 256), "num_labels": 10}
_CONVOLUTIONAL = _NETWORK | {"hidden_sizes": (32, 64, 256), "body": "convolutional"}
LADDER = {
    "2 dim.": _rung(_SMALL | {"latent_dim": 2}, _GREY),
    "16 dim.": _rung(_SMALL | {"latent_dim": 16}, _GREY),
    "50 dim.": _rung(_SMALL | {"latent_dim": 50}, _GREY),
    "binarised": _rung(_SMALL | {"latent_dim": 50}, _GREY | {"transform": ("binarise",)}),
    "one cycle": _rung(_SMALL | {"latent_dim": 50}, _SHORT | {"transform": ("binarise",)}, start_at_mean=True),
    "wider": _rung(_NETWORK, _SHORT | {"transform": ("binarise",)}, start_at_mean=True),
    "shifted": _rung(_NETWORK, _SHORT | {"transform": ("shift", "binarise")}, start_at_mean=True),
    "jittered": _rung(_NETWORK, _SHORT, start_at_mean=True),
    "conv.": _rung(_CONVOLUTIONAL, _SHORT),
    "conv. 75": _rung(_CONVOLUTIONAL, _SHORT | {"epochs": 75}),
}
"""The rungs of chapter 10's ladder that no weights are kept of, by what is new. Trained on "fit", read on "validation".

"one cycle" is the training of "cvae-50d": batch size, rate, schedule, precision and start, changed together. "jittered"
takes jitter in place of shifts. All have 20 epochs, but "conv. 75", which takes about as long as the 300 of
"cvae-50d".
"""

MARGIN_IMAGES = 1000


def climb(rung: str) -> dict[str, Any]:
    """Train a rung of `LADDER` and classify the validation images by every bound, with 1, 10 and 100 draws.

    One more score is the source document's, "reconstruction with fresh noise": one draw, another one for every label,
    where `scores_by_draws` takes the same noise for all labels of an image.

    Returns:
        The recipe, number of weights, seconds of training, accuracies by score and K, the places of the misread images
        by both bounds, for paired tests, and margin and noise of `MARGIN_IMAGES` random images, see `margin_and_noise`.
    """
    recipe = LADDER[rung]
    train, validation = data_of(recipe)
    model, history = train_recipe(recipe, 0, train, validation)
    scores = scores_by_draws(model, validation.images, (1, 10, 100))
    scores["reconstruction with fresh noise", 1] = one_reconstruction(model, validation.images)
    wrong = {
        f"{bound} {K}": (values.argmax(1) != validation.labels).nonzero().flatten().tolist()
        for (bound, K), values in scores.items()
        if bound in ("elbo", "importance_weighted")
    }
    margin, noise = margin_and_noise(model, *validation.sample(MARGIN_IMAGES, seed=0))
    return {
        "model": recipe.model,
        "fit": recipe.fit,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "seconds": round(sum(history.column("seconds"))),
        "validation_loss": round(history[-1].held_out_loss or math.nan, 4),
        "accuracy": accuracies(scores, validation.labels),
        "margin": round(margin, 4),
        "noise": round(noise, 4),
        "wrong": wrong,
        "machine": machine(model.device),
    }


@torch.no_grad()
def one_reconstruction(model: CVAE, x: Tensor, seed: int = 0) -> Tensor:
    """log p(x | z, y) for every image under every label, (images, labels), each with a code of its own, in nats.

    Equations: (9.4)
    """
    labels = torch.arange(model.num_labels)
    with seeded(seed):
        return -torch.cat([elbo_terms(model, chunk[:, None], labels).reconstruction for chunk in x.split(500)])


def margin_and_noise(model: CVAE, x: Tensor, y: Tensor, rounds: int = 8) -> tuple[float, float]:
    """What a comparison of two labels by one reconstruction has to find, and the noise it has to find it in.

        margin = ELBO(x, y) - ELBO(x, c),   c the wrong label with the highest ELBO, 10 draws
        noise = standard deviation of r(x, y) - r(x, c) over draws, each label with a draw of its own

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, pixels).
        y: their labels, shape (images,).
        rounds: how often each pair is drawn, at least 2.

    Returns:
        The means of both over the images, in nats.

    Equations: (9.4)
    """
    y = y[:, None]
    bound = scores_by_draws(model, x, (10,))["elbo", 10]
    rival = bound.scatter(1, y, -torch.inf).argmax(1, keepdim=True)
    draws = torch.stack([one_reconstruction(model, x, seed) for seed in range(rounds)])
    pairs = draws.gather(2, torch.cat([y, rival], 1).expand(rounds, -1, -1))
    margin = bound.gather(1, y) - bound.gather(1, rival)
    return margin.mean().item(), (pairs[..., 0] - pairs[..., 1]).std(0).mean().item()
