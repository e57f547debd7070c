"""Training: one loop for every model, and what is measured on a whole data set afterwards."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from cvae_lib.data import ImageSet
from cvae_lib.loss import ElboTerms, PosteriorDraws, elbo_terms, importance_weighted_bound, posterior_draws
from cvae_lib.model import CVAE, check_known

SCHEDULES = ("constant", "one_cycle")
PRECISIONS = ("float32", "bfloat16")
OBJECTIVES = ("elbo", "importance_weighted")


class Epoch(NamedTuple):
    """One row of a `History`: averages per image in nats, and seconds.

    reconstruction, kl, loss: the terms of the negative ELBO and their sum, whatever is minimised; running averages
        over the epoch's batches, gathered while the weights move.
    held_out_reconstruction, held_out_kl, held_out_loss: on the held-out set after the epoch; None without one.
    seconds: of the pass over the training images, without the held-out set.
    """

    epoch: int
    reconstruction: float
    kl: float
    loss: float
    held_out_reconstruction: float | None
    held_out_kl: float | None
    held_out_loss: float | None
    seconds: float


class History(list[Epoch]):
    """One `Epoch` per epoch trained."""

    def column(self, name: str) -> list[Any]:
        """One quantity over the epochs, such as `history.column("held_out_loss")`."""
        return [getattr(row, name) for row in self]


def fit(
    model: CVAE,
    data: ImageSet,
    *,
    epochs: int,
    held_out: ImageSet | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    objective: str | Callable[[PosteriorDraws], Tensor] = "elbo",
    num_samples: int = 1,
    beta: float = 1.0,
    warm_up: int = 0,
    free_bits: float = 0.0,
    transform: Callable[[Tensor], Tensor] | None = None,
    precision: str = "float32",
    observer: Callable[[CVAE], object] | None = None,
    seed: int = 0,
) -> History:
    """Maximise a bound with Adam; by default the ELBO, estimated with one draw an image.

        elbo:                 minimise the mean over the batch of  reconstruction + beta * KL
        importance_weighted:  minimise the mean over the batch of  -log 1/K sum_k w_k

    Says first which data it uses. Trains where the model is (CPU or GPU); the data moves there. The seed
    fixes the order of the images and the draws, on one machine; the initial weights are the caller's, and
    the caller's random state is left as it was. Interrupted from the keyboard it returns the whole epochs
    there are, and the model keeps what it learned.

    Args:
        model: a `CVAE`; with labels it is trained on (images, labels), without on the images.
        data: training images.
        epochs: passes over the data, at least 1.
        held_out: images for a loss after each epoch; nothing is chosen by it here.
        batch_size: images a step, at least 1.
        learning_rate: Adam's, above 0; with "one_cycle" the highest.
        schedule: "constant", or "one_cycle": up to learning_rate over the first 30 % of the steps, then down to
            almost 0 along a cosine (Smith & Topin, "Super-convergence", 2018; torch's OneCycleLR).
        objective: "elbo" or "importance_weighted", see above, or a function that makes the number to minimise from
            the draws for a batch.
        num_samples: K, draws an image in every step, at least 1.
        beta: weight of the KL term, at least 0. With 1 minus the loss is the ELBO, above 1 a looser bound, below 1 it
            need not be a bound (Higgins et al., "beta-VAE", 2017). For the ELBO.
        warm_up: epochs over which the weight of the KL rises in even steps from 0 to beta (Bowman et al.,
            "Generating sentences from a continuous space", 2016). For the ELBO.
        free_bits: nats that every latent dimension may use without paying: its KL, averaged over the batch, counts
            as this much when it is less (Kingma et al., "Inverse autoregressive flow", 2016). For the ELBO.
        transform: done to every batch of images, such as `torch.bernoulli`, which binarises them at random.
        precision: of the products inside the networks, "float32" or "bfloat16", which is faster where the processor
            knows it; weights, densities and their sums keep 32 bits (torch's autocast).
        observer: called with the model before the first epoch and after each. What it draws at random does not
            change the training.
        seed: for order, draws and transform.

    Returns:
        The history, one row an epoch.

    Raises:
        ValueError: an argument out of range, or data that does not fit the model.
        FloatingPointError: the loss became infinite or NaN.

    Equations: (3.4), (5.8), (5.17), (7.2), (9.7)
    """
    if min(epochs, batch_size, num_samples) < 1 or not learning_rate > 0:
        raise ValueError(
            "epochs, batch_size and num_samples must be at least 1 and learning_rate above 0; "
            f"got {epochs=}, {batch_size=}, {num_samples=}, {learning_rate=}."
        )
    if not min(beta, warm_up, free_bits) >= 0:
        raise ValueError(f"beta, warm_up and free_bits must be at least 0; got {beta=}, {warm_up=}, {free_bits=}.")
    if objective != "elbo" and (beta, warm_up, free_bits) != (1, 0, 0):
        raise ValueError(f"beta, warm_up and free_bits belong to the objective 'elbo'; got {objective=}.")
    check_known("schedule", schedule, SCHEDULES)
    check_known("precision", precision, PRECISIONS)
    if not callable(objective):
        check_known("objective", objective, OBJECTIVES)
    x, y = _on_device(model, data)
    if held_out is not None:
        _on_device(model, held_out)  # fails now rather than after the first epoch
    print(f"Data: {data}" + (f"; held out: {held_out}" if held_out else ""))

    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=model.device.type in ("cpu", "cuda"))
    history = History()
    steps = -(-len(x) // batch_size)
    scheduler = OneCycleLR(optimizer, learning_rate, epochs * steps) if schedule == "one_cycle" else None

    def observe() -> None:
        if observer is not None:
            model.eval()
            with seeded(seed, model.device):
                observer(model)

    quiet = bool(os.environ.get("TQDM_DISABLE"))  # tqdm itself does not look at it in a notebook
    with (
        seeded(seed, model.device),
        tqdm(total=epochs * steps, unit="batch", disable=quiet) as progress,
    ):
        try:
            observe()
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                model.train()
                sums = torch.zeros(2, device=model.device)  # reconstruction and KL so far
                for step, batch in enumerate(torch.randperm(len(x), device=model.device).split(batch_size), 1):
                    images = x[batch] if transform is None else transform(x[batch])
                    labels = None if y is None else y[batch]
                    with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                        draws = posterior_draws(model, images, labels, num_samples)
                    if callable(objective):
                        loss = objective(draws)
                    elif objective == "importance_weighted":
                        loss = -draws.bound.mean()
                    else:
                        begun = epoch - 1 + (step - 1) / steps
                        weight = beta * min(1.0, begun / warm_up) if warm_up else beta
                        loss = _weighted_loss(draws, weight, free_bits)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    if scheduler:
                        scheduler.step()
                    sums += torch.stack([term.sum() for term in draws.terms]).detach()
                    progress.update()
                    if step % 50 == 0 or step == steps:
                        running = sums.sum().item() / min(step * batch_size, len(x))
                        progress.set_postfix(epoch=epoch, loss=f"{running:.2f}")
                seconds = time.perf_counter() - start
                reconstruction, kl = (sums / len(x)).tolist()
                if not reconstruction + kl < torch.inf:
                    raise FloatingPointError(
                        f"The loss became {reconstruction + kl} in epoch {epoch}; "
                        f"try a learning_rate below {learning_rate:g}."
                    )
                after = evaluate(model, held_out, seed=seed) if held_out else None
                history.append(
                    Epoch(
                        epoch,
                        reconstruction,
                        kl,
                        reconstruction + kl,
                        after and after.reconstruction.item(),
                        after and after.kl.item(),
                        after and after.loss.item(),
                        seconds,
                    )
                )
                observe()
        except KeyboardInterrupt:
            print(f"Interrupted in epoch {len(history) + 1}; the history holds the {len(history)} before it.")
    model.eval()
    return history


def _weighted_loss(draws: PosteriorDraws, beta: float, free_bits: float) -> Tensor:
    """Mean over the batch of reconstruction + beta * KL, every latent dimension's KL counted as free_bits at least."""
    kl = draws.kl.mean(0)  # (latent_dim,)
    if free_bits:
        kl = kl.clamp(min=free_bits)
    return -draws.log_likelihood.mean() + beta * kl.sum()


@torch.no_grad()
def evaluate(model: CVAE, data: ImageSet, *, num_samples: int = 1, batch_size: int = 1000, seed: int = 0) -> ElboTerms:
    """Both terms of the negative ELBO in nats, averaged over a data set; scalars. Same seed, same value.

    Raises:
        ValueError: data that does not fit the model, or num_samples below 1.

    Equations: (1.14)
    """
    x, y = _on_device(model, data)
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=model.device)
    with seeded(seed, model.device):
        for batch in torch.arange(len(x), device=model.device).split(batch_size):
            terms = elbo_terms(model, x[batch], None if y is None else y[batch], num_samples)
            sums += torch.stack([terms.reconstruction.sum(), terms.kl.sum()])
    return ElboTerms(*(sums / len(x)))


@torch.no_grad()
def estimate_log_likelihood(model: CVAE, data: ImageSet, num_samples: int = 5000, seed: int = 0) -> Tensor:
    """The importance-weighted bound on log p(x | y) of every image in a data set, in nats, shape (N,).

        log 1/K sum_k w_k <= log p(x | y) in expectation, see `importance_weighted_bound`

    The images are taken a few at a time, so that memory stays flat. With K = 5000 this is the published protocol
    of Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016. Same seed, same values.

    Raises:
        ValueError: data that does not fit the model, or num_samples below 1.

    Equations: (6.1), (9.7)
    """
    x, y = _on_device(model, data)
    model.eval()
    chunk = max(1, 2**22 // (max(1, num_samples) * model.pixels))  # about 4 million pixels decoded at a time
    values = x.new_empty(len(x))
    with seeded(seed, model.device):
        for batch in torch.arange(len(x), device=model.device).split(chunk):
            labels = None if y is None else y[batch]
            values[batch] = importance_weighted_bound(model, x[batch], labels, num_samples)
    return values


def _on_device(model: CVAE, data: ImageSet) -> tuple[torch.Tensor, torch.Tensor | None]:
    x = data.images.to(model.device)
    model.check_images(x)
    y = model.check_labels(data.labels, x) if model.num_labels else None
    return x, y


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch inside and leave the caller's random state as it was: the CPU's, and the device's if it is a GPU."""
    with torch.random.fork_rng(devices=[device] if device and device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
