"""What a model gains on the images that it was trained on: the same images, seen by one model and not by another."""

import math
from typing import Any

import torch
from torch import Tensor

from cvae_lib.course.recipes import machine, seeded, train_recipe
from cvae_lib.data import ImageSet, load
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.quadrature import log_likelihood_by_quadrature


@torch.no_grad()
def exact_and_gap(model: CVAE, x: Tensor, num_samples: int = 10) -> tuple[Tensor, Tensor]:
    """log p(x) by quadrature, and how far the ELBO lies below it, in nats, one of each per image.

    Equations: (6.6)
    """
    with seeded(0):
        loss = torch.cat([posterior_draws(model, some, num_samples=num_samples).terms.loss for some in x.split(500)])
    log_p = log_likelihood_by_quadrature(model, x)
    return log_p, log_p + loss


def seen_and_unseen(seed: int, dataset: str = "mnist", judged: int = 20_000) -> dict[str, Any]:
    """Train the recipe of `vae-2d` on a random half of the training images, and on the other half; judge both on both.

    Every image was seen by one of the two models. So the same images, binarised, are compared under the one and under
    the other, and which of them are harder makes no difference.

    Args:
        seed: of the halves, and of both trainings.
        dataset: of `load`.
        judged: how many training images are judged, drawn at random.

    Returns:
        In nats, with standard errors over images: what having been seen adds to log p(x), takes from the gap, and
        their sum, what it adds to the ELBO; and the medians of the gap.
    """
    train = load(dataset, "train")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    halves = order.tensor_split(2)
    sets = [ImageSet(train.images[half], train.labels[half], "half") for half in halves]
    models = [train_recipe("vae-2d", seed, half, None)[0] for half in sets]
    in_first = torch.zeros(len(train), dtype=torch.bool)
    in_first[halves[0]] = True
    chosen = order[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed + 1000))[:judged]]
    x = train.binarised(seed=1).images[chosen]
    log_p, gap = (torch.stack(values) for values in zip(*(exact_and_gap(model, x) for model in models), strict=True))
    by_seen = torch.where(in_first[chosen], torch.tensor([[0], [1]]), torch.tensor([[1], [0]]))  # seen, unseen
    log_p, gap = log_p.gather(0, by_seen), gap.gather(0, by_seen)
    found: dict[str, Any] = {"machine": machine(x.device), "images": len(x)}
    for name, difference in {
        "elbo": (log_p - gap)[0] - (log_p - gap)[1],
        "decoder": log_p[0] - log_p[1],
        "encoder": gap[1] - gap[0],
    }.items():
        found[name] = round(difference.mean().item(), 4)
        found[f"{name}_error"] = round(difference.std().item() / math.sqrt(len(x)), 4)
    return found | {"gap_median": [round(value, 4) for value in gap.median(1).values.tolist()]}
