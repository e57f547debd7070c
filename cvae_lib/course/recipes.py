"""Recipes: what a model is and how it is trained, read from `recipes.toml`; and one training by a recipe."""

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvae_lib.callbacks import Callback, History, Training
from cvae_lib.checks import look_up
from cvae_lib.course.transforms import chain
from cvae_lib.data import ImageSet, load
from cvae_lib.model import CVAE
from cvae_lib.train import Elbo, ImportanceWeighted, fit

OBJECTIVES = {"elbo": Elbo(), "importance_weighted": ImportanceWeighted()}


@dataclass(frozen=True)
class Recipe:
    """How named weights are trained, so that anyone can train them again.

    Attributes:
        model: arguments of `CVAE`.
        fit: arguments of `fit`; the transform as a list of names from `TRANSFORMS`, done in this order, and the
            objective as a name from `OBJECTIVES`.
        seeds: one run each; the weights of the first are the ones that ship.
        dataset, split: arguments of `load`. A model of "train" is tested on "test", one of "fit" on "validation".
        every_seed: the weights of the other seeds ship as well, as "NAME/seed-1" and so on, for an ensemble.
        accuracy_draws: values of K for which the accuracy as a classifier is kept in the log, for every bound and seed.
        start_at_mean: begin with the decoder at the mean training image, see `start_at_mean`.
        evaluation_samples: K of the importance-weighted bound on the whole test set that is computed after training and
            kept in the log; 0 for none.
        snapshots: how many of the first test images have their posterior means stored, before training and after every
            epoch; 0 for none. For models without labels.
    """

    model: dict[str, Any]
    fit: dict[str, Any]
    seeds: tuple[int, ...] = (0, 1, 2)
    dataset: str = "mnist"
    split: str = "train"
    every_seed: bool = False
    accuracy_draws: tuple[int, ...] = ()
    start_at_mean: bool = False
    evaluation_samples: int = 0
    snapshots: int = 0


def read_recipes(group: str) -> dict[str, Recipe]:
    """The recipes of one group of `recipes.toml`, "weights" or "ladder", by name."""
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in tomllib.loads((Path(__file__).parent / "recipes.toml").read_text())[group].items():
        base = entries.get(entry.pop("like", ""), {})
        merged = {part: base.get(part, {}) | entry.get(part, {}) for part in ("model", "fit")}
        entries[name] = base | entry | merged
    return {name: Recipe(**entry) for name, entry in entries.items()}


RECIPES = read_recipes("weights")
"""The recipes behind the weights that come with the package, by the name of the weights."""


def data_of(recipe: Recipe) -> tuple[ImageSet, ImageSet]:
    """What a recipe trains on, and what it is tested on: "test", or "validation" for a model of "fit"."""
    held_out = "test" if recipe.split == "train" else "validation"
    return load(recipe.dataset, recipe.split), load(recipe.dataset, held_out)


def initial_model(recipe: Recipe, seed: int, train: ImageSet) -> CVAE:
    """The model before training."""
    with seeded(seed):
        model = CVAE(**recipe.model)
    if recipe.start_at_mean:
        start_at_mean(model, train.images)
    return model


class Observer(Callback):
    """A callback that calls a function with the model, before the first epoch and after each."""

    def __init__(self, function: Callable[[CVAE], object]) -> None:
        self.function = function

    def on_start(self, training: Training) -> None:
        """See `Callback`."""
        self.function(training.model)

    on_epoch = on_start


def train_recipe(
    name: str | Recipe, seed: int, train: ImageSet, test: ImageSet | None, callbacks: Iterable[Callback] = ()
) -> tuple[CVAE, History]:
    """Train one model by a recipe or its name. The test set is only looked at after each epoch; it chooses nothing.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = name if isinstance(name, Recipe) else look_up("recipe", name, RECIPES)
    model = initial_model(recipe, seed, train)
    arguments = recipe.fit | {"objective": look_up("objective", recipe.fit.get("objective", "elbo"), OBJECTIVES)}
    if "transform" in arguments:
        arguments["transform"] = chain(arguments["transform"])
    return model, fit(model, train, held_out=test, callbacks=callbacks, seed=seed, **arguments)


def accuracies(scores: Mapping[tuple[str, int], Tensor], labels: Tensor) -> dict[str, dict[str, float]]:
    """The share of images whose best score is their label's, by bound and K; scores as `scores_by_draws` gives them."""
    table: dict[str, dict[str, float]] = {}
    for (bound, K), values in scores.items():
        table.setdefault(bound, {})[str(K)] = (values.argmax(1).cpu() == labels).double().mean().item()
    return table


@torch.no_grad()
def start_at_mean(model: CVAE, images: Tensor) -> None:
    """Set the decoder's last bias so that an untrained decoder draws the mean image, nearly.

        bias_i = logit(mean_i),   mean_i between 0.001 and 0.999

    Training then need not spend its first epochs on learning which pixels are always black.

    Args:
        model: a `CVAE`.
        images: the training images, shape (N, pixels).

    Raises:
        ValueError: images do not fit the model, or the decoder has not one last bias for each pixel.

    Source: Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, published code.
    """
    model.check_images(images)
    bias = list(model.decoder.body.parameters())[-1]
    if bias.shape != (model.pixels,):
        raise ValueError("start_at_mean needs a decoder with one last bias for each pixel, such as the body 'mlp'.")
    bias.copy_(images.mean(0).clamp(0.001, 0.999).logit())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside and leave the caller's random state as it was: for initial weights and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def machine(device: torch.device) -> str:
    """What a log says about where it was made."""
    return f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads of {os.cpu_count()}"
