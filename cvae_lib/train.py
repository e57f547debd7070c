"""Training: one step, and one loop for every model."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from cvae_lib.callbacks import Callback, History, ProgressBar, Training, notify
from cvae_lib.checks import check_at_least, check_positive, look_up
from cvae_lib.data import ImageSet
from cvae_lib.evaluation import on_device
from cvae_lib.loss import PosteriorDraws, posterior_draws
from cvae_lib.model import CVAE

SCHEDULES: dict[str, Callable[[Optimizer, float, int], LRScheduler]] = {
    "constant": lambda optimizer, rate, steps: ConstantLR(optimizer, 1.0, steps),
    "one_cycle": OneCycleLR,
}
"""What becomes of the learning rate, by name, made from the optimizer, the highest rate and the number of steps.

- one_cycle: up to the rate over the first 30 % of the steps, then down to almost 0 along a cosine (Smith & Topin,
  "Super-convergence", 2018).
"""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Objective = Callable[[PosteriorDraws, float], Tensor]
"""Makes the number to minimise from the draws for a batch and from the epochs done so far, a fraction included."""


@dataclass(frozen=True)
class Elbo:
    """The negative ELBO, averaged over the batch; by default without any weights.

        reconstruction + beta * KL

    Args:
        beta: weight of the KL term, at least 0. With 1 minus the loss is the ELBO, above 1 a looser bound, below 1 it
            need not be a bound (Higgins et al., "beta-VAE", 2017).
        warm_up: epochs over which the weight of the KL rises in even steps from 0 to beta (Bowman et al.,
            "Generating sentences from a continuous space", 2016).
        free_bits: nats that every latent dimension may use without paying: its KL, averaged over the batch, counts
            as this much when it is less (Kingma et al., "Inverse autoregressive flow", 2016).

    Raises:
        ValueError: an argument is below 0, or NaN.

    Equations: (3.4), (5.8), (5.17)
    """

    beta: float = 1.0
    warm_up: float = 0.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(0, beta=self.beta, warm_up=self.warm_up, free_bits=self.free_bits)

    def __call__(self, draws: PosteriorDraws, epochs_done: float) -> Tensor:
        """The mean over the batch, in nats."""
        weight = self.beta * min(1.0, epochs_done / self.warm_up) if self.warm_up else self.beta
        kl = draws.kl.mean(0).clamp(min=self.free_bits)  # (latent_dim,)
        return -draws.log_likelihood.mean() + weight * kl.sum()


@dataclass(frozen=True)
class ImportanceWeighted:
    """Minus the importance-weighted bound, averaged over the batch.

        -log 1/K sum_k w_k

    Equations: (6.7), (9.7)
    """

    def __call__(self, draws: PosteriorDraws, epochs_done: float) -> Tensor:
        """The mean over the batch, in nats."""
        return -draws.bound.mean()


def train_step(
    model: CVAE,
    optimizer: Optimizer,
    x: Tensor,
    y: Tensor | None = None,
    *,
    objective: Objective = Elbo(),
    epochs_done: float = 0.0,
    num_samples: int = 1,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> PosteriorDraws:
    """One step for a batch: draw codes, decode them, and follow the gradient of the objective down.

    Args:
        model: a `CVAE`.
        optimizer: of its weights.
        x: images, shape (images, pixels).
        y: labels, shape (images,), or None for a model without labels.
        objective: what is minimised, see `fit`.
        epochs_done: so far, a fraction included; for the objective.
        num_samples: K, draws an image.
        dtype: of the products inside the networks.
        generator: of the draws; torch's own if left out.

    Returns:
        The draws, made before the step.

    Equations: (2.4), (3.4)
    """
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        draws = posterior_draws(model, x, y, num_samples, generator=generator)
    loss = objective(draws, epochs_done)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return draws


def batches(
    x: Tensor, y: Tensor | None, batch_size: int, transform: Callable[..., Tensor] | None, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """All images once, in a new order: a permutation and a slice, then the transform."""
    for batch in torch.randperm(len(x), generator=generator, device=x.device).split(batch_size):
        images = x[batch] if transform is None else transform(x[batch], generator=generator)
        yield images, None if y is None else y[batch]


def fit(
    model: CVAE,
    data: ImageSet,
    *,
    epochs: int,
    held_out: ImageSet | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    objective: Objective = Elbo(),
    num_samples: int = 1,
    transform: Callable[..., Tensor] | None = None,
    precision: str = "float32",
    callbacks: Iterable[Callback] = (),
    seed: int = 0,
    quiet: bool = False,
) -> History:
    """Maximise a bound with Adam; by default the ELBO, estimated with one draw an image.

    Says first which data it uses. Trains where the model is (CPU or GPU); the data moves there. The seed
    fixes the order of the images and the draws, on one machine; the initial weights are the caller's, and
    torch's own random state is not used. Interrupted from the keyboard it returns the whole epochs
    there are, and the model keeps what it learned. Called again it begins anew: Adam, schedule and seed remember
    nothing.

    Args:
        model: a `CVAE`; with labels it is trained on (images, labels), without on the images.
        data: training images.
        epochs: passes over the data, at least 1.
        held_out: images for a loss after each epoch; nothing is chosen by it here.
        batch_size: images a step, at least 1.
        learning_rate: Adam's, above 0; with "one_cycle" the highest.
        schedule: a key of `SCHEDULES`.
        objective: what is minimised: `Elbo`, `ImportanceWeighted`, or a function of the draws for a batch and of the
            epochs done so far.
        num_samples: K, draws an image in every step, at least 1.
        transform: done to every batch of images, such as `torch.bernoulli`, which binarises them at random; called
            with the images and with `generator=`, which it draws from.
        precision: of the products inside the networks, "float32" or "bfloat16", which is faster where the processor
            knows it; weights, densities and their sums keep 32 bits (torch's autocast).
        callbacks: watch the training, see `Callback`.
        seed: for order, draws and transform.
        quiet: say nothing and show no progress bar.

    Returns:
        The history, one row an epoch.

    Raises:
        ValueError: an argument out of range, or data that does not fit the model.
        FloatingPointError: the loss became infinite or NaN.

    Equations: (3.4), (5.8), (5.17), (7.2), (9.7)
    """
    check_at_least(1, epochs=epochs, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    x, y = on_device(model, data)
    history = History(held_out, seed)
    watchers = [history, *([] if quiet else [ProgressBar(history, data)]), *callbacks]
    generator = torch.Generator(model.device).manual_seed(seed)
    dtype = look_up("precision", precision, PRECISIONS)
    how = {"objective": objective, "num_samples": num_samples, "dtype": dtype, "generator": generator}
    optimizer = Adam(model.parameters(), lr=learning_rate, fused=model.device.type in ("cpu", "cuda"))
    steps = -(-len(x) // batch_size)
    scheduler = look_up("schedule", schedule, SCHEDULES)(optimizer, learning_rate, epochs * steps)
    notify(watchers, "on_start", Training(model, epochs, steps, learning_rate))
    try:
        for epoch in range(1, epochs + 1):
            for step, (images, labels) in enumerate(batches(x, y, batch_size, transform, generator), 1):
                draws = train_step(model, optimizer, images, labels, epochs_done=epoch - 1 + (step - 1) / steps, **how)
                scheduler.step()
                notify(watchers, "on_step", now := Training(model, epochs, steps, learning_rate, epoch, step, draws))
            notify(watchers, "on_epoch", now)
    except KeyboardInterrupt:
        print(f"Interrupted in epoch {len(history) + 1}; the history holds the {len(history)} before it.")
    model.eval()
    return history
