"""The networks of chapter 5, trained until nothing changes: what collapses, what does not, and what helps."""

from typing import Any

import torch
from torch import nn

from cvae_lib.course.recipes import machine
from cvae_lib.data import load
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.train import fit, seeded

DEEP = (200, 200, 200, 200)
TREATMENTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "warm-up": {"warm_up": 10},
    "free bits": {"free_bits": 1.0},
    "free bits, then none": {"free_bits": 1.0, "until": 50},
    "initial weights": {"he_weights": True},
    "small network": {"hidden_sizes": (200,)},
    "no KL": {"beta": 0.0, "epochs": 15},
}
"""What is done to the deep network, by name. "until" is the epoch after which training goes on without it."""
BETAS = (20, 28, 36)


def keep_the_signal(model: nn.Module) -> None:
    """Give all hidden layers initial weights of variance 2 / n, for n inputs, which ReLU passes on undiminished.

    Source: He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 200:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def train_and_watch(
    dataset: str = "mnist",
    *,
    seed: int,
    epochs: int = 100,
    hidden_sizes: tuple[int, ...] = DEEP,
    he_weights: bool = False,
    until: int | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Train a network of chapter 5 on grey pixels, in 16 bits, and look at the test images after every epoch.

    Args:
        dataset: of `load`.
        seed: of initial weights, order and draws.
        epochs: passes over the training images.
        hidden_sizes: widths of the hidden layers.
        he_weights: begin with the weights of He and others.
        until: the epoch after which training goes on by the plain ELBO; None for never.
        arguments: of `fit`.

    Returns:
        One entry an epoch in each list, on the test images: reconstruction and KL term in nats, the number of active
        units (variance of the posterior mean above 0.01), and of dimensions with a KL above a tenth of a nat.
    """
    train, test = load(dataset, "train"), load(dataset, "test")
    with seeded(seed):
        model = CVAE(train.images.shape[1], hidden_sizes, 8)
        if he_weights:
            keep_the_signal(model)
    columns: dict[str, list[float]] = {"reconstruction": [], "kl": [], "active": [], "above_a_tenth": []}

    @torch.no_grad()
    def look(model: CVAE) -> None:
        draws = posterior_draws(model, test.images)
        terms, rates = draws.terms, draws.kl.mean(0)
        found = (
            terms.reconstruction.mean(),
            terms.kl.mean(),
            (draws.posterior.loc.var(0) > 0.01).sum(),
            (rates > 0.1).sum(),
        )
        for column, value in zip(columns.values(), found, strict=True):
            column.append(round(value.item(), 3))

    schedule: dict[str, Any] = {"batch_size": 500, "learning_rate": 2e-3, "precision": "bfloat16"}
    first = epochs if until is None else until
    fit(model, train, epochs=first, observer=look, seed=seed, **schedule, **arguments)
    if first < epochs:
        columns = {name: column[:-1] for name, column in columns.items()}  # the observer looks again before it begins
        fit(model, train, epochs=epochs - first, observer=look, seed=seed + 1000, **schedule)
    return {"machine": machine(model.device)} | {name: column[1:] for name, column in columns.items()}


def treatment(name: str, seed: int) -> dict[str, Any]:
    """One row of the experiment "collapse": a treatment of `TREATMENTS` and a seed."""
    return train_and_watch(seed=seed, **TREATMENTS[name])


def with_beta(beta: float, seed: int) -> dict[str, Any]:
    """One row of the experiment "large-beta": the small network with a weight near the threshold of (5.16)."""
    return train_and_watch(seed=seed, beta=beta, hidden_sizes=(200,), epochs=60)
