"""Who watches a training: its history, a progress bar, and what you write yourself."""

import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from cvae_lib.data import ImageSet
from cvae_lib.evaluation import evaluate, on_device
from cvae_lib.loss import ElboTerms, PosteriorDraws
from cvae_lib.model import CVAE


class Training(NamedTuple):
    """What a callback sees: the model, how far training is, and the draws of the last step.

    epoch and step count from 1; steps is the number of steps in an epoch; draws is None before the first step.
    """

    model: CVAE
    epochs: int
    steps: int
    learning_rate: float
    epoch: int = 0
    step: int = 0
    draws: PosteriorDraws = None  # type: ignore[assignment]  # before the first step


class Callback:
    """Something that watches a training. It may keep what it sees; it must not change the model.

    Overwrite what you need; here all three do nothing.
    """

    def on_start(self, training: Training) -> None:
        """Before the first epoch, with the model in evaluation mode."""

    def on_step(self, training: Training) -> None:
        """After every step."""

    def on_epoch(self, training: Training) -> None:
        """After every epoch, with the model in evaluation mode."""


def notify(watchers: Iterable[Callback], event: str, training: Training) -> None:
    """Tell all of them: "on_start", "on_step" or "on_epoch"; each finds the model in its mode, and training goes on."""
    for watcher in watchers:
        training.model.train(event == "on_step")
        getattr(watcher, event)(training)
    training.model.train()


class Epoch(NamedTuple):
    """One row of a `History`: averages per image in nats, and seconds.

    Attributes:
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


class History(list[Epoch], Callback):
    """A callback that keeps one `Epoch` per epoch trained."""

    def __init__(self, held_out: ImageSet | None = None, seed: int = 0) -> None:
        super().__init__()
        self.held_out, self.seed = held_out, seed

    def column(self, name: str) -> list[Any]:
        """One quantity over the epochs, such as `history.column("held_out_loss")`."""
        return [getattr(row, name) for row in self]

    def _begin(self) -> None:
        self._sums, self._images, self._start = torch.zeros(2), 0, time.perf_counter()

    def on_start(self, training: Training) -> None:
        """See `Callback`."""
        if self.held_out is not None:
            on_device(training.model, self.held_out)  # fails now rather than after the first epoch
        self._begin()

    def on_step(self, training: Training) -> None:
        """See `Callback`."""
        terms = torch.stack(training.draws.terms).detach()  # (2, images)
        self._sums = self._sums.to(terms.device) + terms.sum(1)
        self._images += terms.shape[1]

    @property
    def running(self) -> ElboTerms:
        """Both terms, averaged over the images seen in this epoch so far."""
        return ElboTerms(*(self._sums / self._images))

    def on_epoch(self, training: Training) -> None:
        """See `Callback`."""
        seconds = time.perf_counter() - self._start
        reconstruction, kl = (term.item() for term in self.running)
        if not reconstruction + kl < torch.inf:
            raise FloatingPointError(
                f"The loss became {reconstruction + kl} in epoch {training.epoch}; "
                f"try a learning_rate below {training.learning_rate:g}."
            )
        after: tuple[float | None, float | None, float | None] = (None, None, None)
        if self.held_out is not None:
            terms = evaluate(training.model, self.held_out, seed=self.seed)
            after = terms.reconstruction.item(), terms.kl.item(), terms.loss.item()
        self.append(Epoch(training.epoch, reconstruction, kl, reconstruction + kl, *after, seconds))
        self._begin()


class ProgressBar(Callback):
    """A callback that says which data are used and shows the running loss.

    The environment variable TQDM_DISABLE, set to anything, hides the bar.
    """

    def __init__(self, history: History, data: ImageSet) -> None:
        self.history, self.data = history, data

    def on_start(self, training: Training) -> None:
        """See `Callback`."""
        held_out = self.history.held_out
        print(f"Data: {self.data}" + (f"; held out: {held_out}" if held_out else ""))
        quiet = bool(os.environ.get("TQDM_DISABLE"))  # tqdm itself does not look at it in a notebook
        self.bar = tqdm(total=training.epochs * training.steps, unit="batch", disable=quiet)

    def on_step(self, training: Training) -> None:
        """See `Callback`."""
        self.bar.update()
        if training.step % 50 == 0 or training.step == training.steps:
            self.bar.set_postfix(epoch=training.epoch, loss=f"{self.history.running.loss.item():.2f}")
