"""Does a tighter bound read fewer images, or only a noisier one? Many draws for the images where it is not plain."""

from typing import Any

import torch
from torch import Tensor

from cvae_lib.course.experiments.empty_page import bounds
from cvae_lib.course.experiments.ladder import LADDER
from cvae_lib.course.recipes import data_of, machine, seeded, train_recipe
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.scores import scores_by_draws

RUNGS = ("one cycle", "50 dim.")
DRAWS = 1000
CLOSE = 10.0  # nats between the two best labels, by either bound with ten draws: only such images get many draws


@torch.no_grad()
def many_draws(model: CVAE, x: Tensor, y: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Scores of images under some labels, each from the same `DRAWS` draws, so with the same noise, (images, labels).

    "elbo": the ELBO with all draws. "importance_weighted K": the mean of `DRAWS` / K bounds with K draws each, which is
    the expectation of that bound up to noise.

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, pixels).
        y: labels, shape (images, labels).
        seed: of the noise.

    Equations: (9.7)
    """
    tables: dict[str, list[Tensor]] = {}
    with seeded(seed):
        for some_x, some_y in zip(x.split(40), y.split(40), strict=True):
            parts = [posterior_draws(model, some_x[:, None], some_y, 20) for _ in range(DRAWS // 20)]
            found = {"elbo": torch.stack([-part.terms.loss for part in parts]).mean(0)}
            log_w = torch.cat([part.log_weights for part in parts])
            found |= {f"importance_weighted {K}": bounds(log_w, K).mean(0) for K in (1, 10, 100, 1000)}
            for name, scores in found.items():
                tables.setdefault(name, []).append(scores)
    return {name: torch.cat(scores) for name, scores in tables.items()}


def wrong_by_bound(model: CVAE, x: Tensor, labels: Tensor, repeats: int = 5) -> dict[str, Any]:
    """Which images every bound misreads: with all the noise of ten draws, and with next to none.

    Returns:
        "few": for each seed of the noise how many images either bound with 1 and with 10 draws misreads. "many": the
        places of the images that `many_draws` misreads, by bound. "close": how many images were looked at by many
        draws; of the others the answer is that of ten draws.
    """
    scores = scores_by_draws(model, x, (1, 10))
    pair = [scores[bound, 10] for bound in ("elbo", "importance_weighted")]
    gaps = [table.topk(2, 1).values for table in pair]
    close = torch.stack([gap[:, 0] - gap[:, 1] < CLOSE for gap in gaps]).any(0) | (
        pair[0].argmax(1) != pair[1].argmax(1)
    )
    where = close.nonzero()[:, 0]
    best = torch.maximum(*pair)[where].topk(3, 1).indices
    answers = {name: pair[1].argmax(1) for name in ("elbo", *(f"importance_weighted {K}" for K in (1, 10, 100, 1000)))}
    for name, found in many_draws(model, x[where], best).items():
        answers[name][where] = best.gather(1, found.argmax(1, keepdim=True))[:, 0]
    far = (~close).nonzero()[:, 0]
    few: list[dict[str, int]] = []
    for seed in range(repeats):
        again = scores_by_draws(model, x[where], (1, 10), seed=seed)
        missed = int((answers["elbo"][far] != labels[far]).sum())
        few.append(
            {
                f"{bound} {K}": missed + int((table.argmax(1) != labels[where]).sum())
                for (bound, K), table in again.items()
                if bound != "reconstruction"
            }
        )
    many = {name: (answer != labels).nonzero().flatten().tolist() for name, answer in answers.items()}
    return {"close": len(where), "few": few, "many": many}


def tightness(rung: str) -> dict[str, Any]:
    """Train a rung of the ladder again, and classify the validation images as `wrong_by_bound` does."""
    recipe = LADDER[rung]
    train, validation = data_of(recipe)
    model, _ = train_recipe(recipe, 0, train, None)
    return {"machine": machine(model.device)} | wrong_by_bound(model, validation.images, validation.labels)
