"""The networks of chapter 5, trained until nothing changes: what collapses, what does not, and what helps."""

from typing import Any

import torch
from torch import nn

from cvae_lib.callbacks import Callback, Training
from cvae_lib.course.recipes import machine, seeded
from cvae_lib.data import ImageSet, load
from cvae_lib.loss import posterior_draws
from cvae_lib.model import CVAE
from cvae_lib.train import Elbo, fit

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


class Watch(Callback):
    """Looks at some images after every epoch: what `columns` holds is one number an epoch, under each name."""

    def __init__(self, test: ImageSet) -> None:
        self.test = test
        self.columns: dict[str, list[float]] = {"reconstruction": [], "kl": [], "active": [], "above_a_tenth": []}

    @torch.no_grad()
    def on_epoch(self, training: Training) -> None:
        """See `Callback`."""
        draws = posterior_draws(training.model, self.test.images)
        terms, rates = draws.terms, draws.kl.mean(0)
        active, above = (draws.posterior.loc.var(0) > 0.01).sum(), (rates > 0.1).sum()
        found = (terms.reconstruction.mean(), terms.kl.mean(), active, above)
        for column, value in zip(self.columns.values(), found, strict=True):
            column.append(round(value.item(), 3))


def train_and_watch(
    dataset: str = "mnist",
    *,
    seed: int,
    epochs: int = 100,
    hidden_sizes: tuple[int, ...] = DEEP,
    he_weights: bool = False,
    until: int | None = None,
    **weights: float,
) -> dict[str, Any]:
    """Train a network of chapter 5 on grey pixels, in 16 bits, and look at the test images after every epoch.

    Args:
        dataset: of `load`.
        seed: of initial weights, order and draws.
        epochs: passes over the training images.
        hidden_sizes: widths of the hidden layers.
        he_weights: begin with the weights of He and others.
        until: the epoch after which training goes on by the plain ELBO; None for never.
        weights: of the objective `Elbo`.

    Returns:
        One entry an epoch in each list, on the test images: reconstruction and KL term in nats, the number of active
        units (variance of the posterior mean above 0.01), and of dimensions with a KL above a tenth of a nat.
    """
    train, watch = load(dataset, "train"), Watch(load(dataset, "test"))
    with seeded(seed):
        model = CVAE(train.images.shape[1], hidden_sizes, 8)
        if he_weights:
            keep_the_signal(model)
    schedule: dict[str, Any] = {"batch_size": 500, "learning_rate": 2e-3, "precision": "bfloat16", "callbacks": [watch]}
    first = epochs if until is None else until
    fit(model, train, epochs=first, objective=Elbo(**weights), seed=seed, **schedule)
    if first < epochs:
        fit(model, train, epochs=epochs - first, seed=seed + 1000, **schedule)
    return {"machine": machine(model.device), **watch.columns}


def treatment(name: str, seed: int) -> dict[str, Any]:
    """One row of the experiment "collapse": a treatment of `TREATMENTS` and a seed."""
    return train_and_watch(seed=seed, **TREATMENTS[name])


def with_beta(beta: float, seed: int) -> dict[str, Any]:
    """One row of the experiment "large-beta": the small network with a weight near the threshold of (5.16)."""
    return train_and_watch(seed=seed, beta=beta, hidden_sizes=(200,), epochs=60)
