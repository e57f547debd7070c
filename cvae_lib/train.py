"""Training: one loop for every model, and the recipes behind the weights that come with the package."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from cvae_lib.data import ImageSet, load
from cvae_lib.loss import ElboTerms, elbo_terms
from cvae_lib.model import CVAE, WEIGHTS


class Epoch(NamedTuple):
    """One row of a `History`: averages per image in nats, and seconds.

    reconstruction, kl, loss: running averages over the epoch's batches, gathered while the weights move.
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
    seed: int = 0,
) -> History:
    """Maximise the ELBO with Adam: minimise the mean of `elbo_terms(model, x, y).loss` over batches, K = 1.

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
        learning_rate: Adam's, above 0.
        seed: for order and draws.

    Returns:
        The history, one row an epoch.

    Raises:
        ValueError: an argument out of range, or data that does not fit the model.
        FloatingPointError: the loss became infinite or NaN.

    Equations: (3.4), (7.2)
    """
    if epochs < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            "epochs and batch_size must be at least 1 and learning_rate above 0; "
            f"got {epochs=}, {batch_size=}, {learning_rate=}."
        )
    x, y = _on_device(model, data)
    if held_out is not None:
        _on_device(model, held_out)  # fails now rather than after the first epoch
    print(f"Data: {data}" + (f"; held out: {held_out}" if held_out else ""))

    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=model.device.type in ("cpu", "cuda"))
    history = History()
    steps = -(-len(x) // batch_size)
    quiet = bool(os.environ.get("TQDM_DISABLE"))  # tqdm itself does not look at it in a notebook
    with (
        _seeded(seed, model.device),
        tqdm(total=epochs * steps, unit="batch", disable=quiet) as progress,
    ):
        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                model.train()
                sums = torch.zeros(2, device=model.device)  # reconstruction and KL so far
                for step, batch in enumerate(torch.randperm(len(x), device=model.device).split(batch_size), 1):
                    terms = elbo_terms(model, x[batch], None if y is None else y[batch])
                    optimizer.zero_grad()
                    terms.loss.mean().backward()
                    optimizer.step()
                    sums += torch.stack([terms.reconstruction.sum(), terms.kl.sum()]).detach()
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
        except KeyboardInterrupt:
            print(f"Interrupted in epoch {len(history) + 1}; the history holds the {len(history)} before it.")
    model.eval()
    return history


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
    with _seeded(seed, model.device):
        for batch in torch.arange(len(x), device=model.device).split(batch_size):
            terms = elbo_terms(model, x[batch], None if y is None else y[batch], num_samples)
            sums += torch.stack([terms.reconstruction.sum(), terms.kl.sum()])
    return ElboTerms(*(sums / len(x)))


def _on_device(model: CVAE, data: ImageSet) -> tuple[torch.Tensor, torch.Tensor | None]:
    x = data.images.to(model.device)
    model.check_images(x)
    y = model.check_labels(data.labels, x) if model.num_labels else None
    return x, y


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Recipe:
    """How named weights are trained: arguments of `CVAE`, `load` and `fit`, and the seeds; the first is shipped."""

    model: dict[str, Any]
    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    dataset: str = "mnist"


RECIPES = {
    "vae-2d": Recipe(model={"pixels": 784, "hidden_sizes": (512, 256), "latent_dim": 2}, epochs=15),
    "cvae-2d": Recipe(model={"pixels": 784, "hidden_sizes": (512, 256), "latent_dim": 2, "num_labels": 10}, epochs=14),
}
"""The recipes behind the weights that come with the package, by the name of the weights."""


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}; known: {', '.join(RECIPES)}.")
    return RECIPES[name]


def train_recipe(name: str, seed: int, train: ImageSet, test: ImageSet) -> tuple[CVAE, History]:
    """Train one model by a recipe. The test set is only looked at after each epoch; nothing is chosen by it.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = _recipe(name)
    with _seeded(seed, torch.device("cpu")):
        model = CVAE(**recipe.model)
    history = fit(
        model,
        train,
        epochs=recipe.epochs,
        held_out=test,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        seed=seed,
    )
    return model, history


def make_weights(name: str, folder: Path = WEIGHTS) -> None:
    """Train a recipe with all its seeds; store the first seed's weights (fp16) and `training.json`, the log.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = _recipe(name)
    train, test = load(recipe.dataset, "train"), load(recipe.dataset, "test")
    runs: list[dict[str, Any]] = []
    for seed in recipe.seeds:
        model, history = train_recipe(name, seed, train, test)
        if not runs:
            model.save_pretrained(folder / name, torch.float16)
        runs.append({"seed": seed, "epochs": [row._asdict() for row in history]})
    log = {
        "recipe": asdict(recipe),
        "data": [str(train), str(test)],
        "machine": f"torch {torch.__version__}, {model.device}, {torch.get_num_threads()} threads of {os.cpu_count()}",
        "shipped_seed": recipe.seeds[0],
        "stored_weights_test_loss": evaluate(CVAE.from_pretrained(folder / name), test).loss.item(),
        "runs": runs,
    }
    (folder / name / "training.json").write_text(json.dumps(log, indent=1) + "\n")
