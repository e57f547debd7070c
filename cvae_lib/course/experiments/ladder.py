"""Models between the plane and `cvae-50d`, rung by rung, and what a comparison by one reconstruction has to find."""

import math
from typing import Any

import torch
from torch import Tensor

from cvae_lib.course.recipes import accuracies, data_of, machine, read_recipes, train_recipe
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.scores import scores_by_draws

LADDER = read_recipes("ladder")
"""The rungs of chapter 10's ladder, by what is new. Trained on "fit", read on "validation"; no weights are kept."""
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
    labels, generator = torch.arange(model.num_labels), torch.Generator().manual_seed(seed)
    draws = (posterior_draws(model, chunk[:, None], labels, generator=generator) for chunk in x.split(500))
    return -torch.cat([some.terms.reconstruction for some in draws])


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
