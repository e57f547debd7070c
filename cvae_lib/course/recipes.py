"""The recipes behind the weights that come with the package, and the log that each leaves."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cvae_lib.classifier import scores_by_draws
from cvae_lib.course.transforms import chain
from cvae_lib.data import ImageSet, load
from cvae_lib.model import CVAE, WEIGHTS
from cvae_lib.train import History, estimate_log_likelihood, evaluate, fit, seeded


@dataclass(frozen=True)
class Recipe:
    """How named weights are trained, so that anyone can train them again.

    model: arguments of `CVAE`.
    fit: arguments of `fit`; the transform as a tuple of names from `TRANSFORMS`, done in this order.
    seeds: one run each; the weights of the first are the ones that ship.
    dataset, split: arguments of `load`. A model of "train" is tested on "test", one of "fit" on "validation".
    every_seed: the weights of the other seeds ship as well, as "NAME/seed-1" and so on, for an ensemble.
    accuracy_draws: values of K for which the accuracy as a classifier is kept in the log, for every bound and seed.
    start_at_mean: begin with the decoder at the mean training image, see `CVAE.start_at_mean`.
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


def _of_the_iwae_paper(epochs: int, **objective: Any) -> Recipe:
    return Recipe(
        {"pixels": 784, "hidden_sizes": (200, 200), "latent_dim": 50, "activation": "tanh"},
        {
            "epochs": epochs,
            "batch_size": 100,
            "learning_rate": 2e-3,
            "schedule": "one_cycle",
            "transform": ("binarise",),
            **objective,
        },
        seeds=(0,),
        start_at_mean=True,
        evaluation_samples=5000,
    )


_PLANE = {"pixels": 784, "hidden_sizes": (512, 256), "latent_dim": 2}
_CVAE_50D = Recipe(
    {"pixels": 784, "hidden_sizes": (512, 512), "latent_dim": 50, "num_labels": 10, "activation": "silu"},
    {
        "epochs": 300,
        "batch_size": 256,
        "learning_rate": 2e-3,
        "schedule": "one_cycle",
        "transform": ("jitter", "binarise"),
        "precision": "bfloat16",
    },
    seeds=(0, 1, 2, 3, 4),
    every_seed=True,
    accuracy_draws=(1, 10, 100),
    start_at_mean=True,
)
RECIPES = {
    "vae-2d": Recipe(_PLANE, {"epochs": 15}, snapshots=500),
    "cvae-2d": Recipe(_PLANE | {"num_labels": 10}, {"epochs": 14}),
    "vae-50d": _of_the_iwae_paper(700),
    "iwae-50d": _of_the_iwae_paper(600, objective="importance_weighted", num_samples=5),
    "cvae-50d": _CVAE_50D,
    "cvae-50d-fit": replace(_CVAE_50D, split="fit", seeds=(0, 1), every_seed=False, accuracy_draws=(1, 10)),
}
"""The recipes behind the weights that come with the package, by the name of the weights.

vae-2d, cvae-2d: the models of chapters 3 and 7.
vae-50d, iwae-50d: the models of Burda, Grosse & Salakhutdinov (2016) with one layer of latent units, k = 1 and 5.
cvae-50d: a conditional model with room for handwriting: the classifiers of chapter 10, the first seed's also in the
    book's page of live elements.
cvae-50d-fit: its twin that has not seen the validation images, so that things can be chosen on them.
"""


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}; known: {', '.join(RECIPES)}.")
    return RECIPES[name]


def train_recipe(
    name: str | Recipe,
    seed: int,
    train: ImageSet,
    test: ImageSet | None,
    observer: Callable[[CVAE], object] | None = None,
) -> tuple[CVAE, History]:
    """Train one model by a recipe or its name. The test set is only looked at after each epoch; it chooses nothing.

    The observer is that of `fit`.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = name if isinstance(name, Recipe) else _recipe(name)
    with seeded(seed):
        model = CVAE(**recipe.model)
    if recipe.start_at_mean:
        model.start_at_mean(train.images)
    arguments = recipe.fit | {"seed": seed}
    if "transform" in arguments:
        arguments["transform"] = chain(arguments["transform"])
    return model, fit(model, train, held_out=test, observer=observer, **arguments)


def data_of(recipe: Recipe) -> tuple[ImageSet, ImageSet]:
    """What a recipe trains on, and what it is tested on: "test", or "validation" for a model of "fit"."""
    held_out = "test" if recipe.split == "train" else "validation"
    return load(recipe.dataset, recipe.split), load(recipe.dataset, held_out)


def accuracies(scores: Mapping[tuple[str, int], Tensor], labels: Tensor) -> dict[str, dict[str, float]]:
    """The share of images whose best score is their label's, by bound and K; scores as `scores_by_draws` gives them."""
    table: dict[str, dict[str, float]] = {}
    for (bound, K), values in scores.items():
        table.setdefault(bound, {})[str(K)] = (values.argmax(1).cpu() == labels).double().mean().item()
    return table


def ensemble_accuracy(
    tables: Sequence[dict[tuple[str, int], Tensor]], labels: Tensor
) -> dict[str, dict[str, dict[str, float]]]:
    """The accuracies of several models together, by the average of their scores and by that of their likelihoods.

        average of scores: 1/M sum_m s_m,    average of likelihoods: log 1/M sum_m exp(s_m)

    Args:
        tables: for each model its scores, as `scores_by_draws` gives them.
        labels: the true ones.

    Equations: (10.2)
    """
    stacked = {name: torch.stack([table[name] for table in tables]) for name in tables[0]}
    return {
        "average of scores": accuracies({name: scores.mean(0) for name, scores in stacked.items()}, labels),
        "average of likelihoods": accuracies({name: scores.logsumexp(0) for name, scores in stacked.items()}, labels),
    }


def machine(device: torch.device) -> str:
    """What a log says about where it was made."""
    return f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads of {os.cpu_count()}"


def make_weights(name: str, folder: Path = WEIGHTS) -> None:
    """Train a recipe with all its seeds; store the first seed's weights (fp16) and `training.json`, the log.

    A recipe that binarises has its loss tested on images binarised once; accuracies are those of the stored weights on
    the grey images. With several seeds there is also the accuracy of all together, see `ensemble_accuracy`.
    Where the recipe wants snapshots, those of the first seed are stored in `snapshots.safetensors`: the means
    (epochs + 1, images, latent_dim), fp16, and the terms of the test loss (epochs, 2), reconstruction and KL.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = _recipe(name)
    train, grey = data_of(recipe)
    test = grey.binarised() if "binarise" in recipe.fit.get("transform", ()) else grey
    runs: list[dict[str, Any]] = []
    means: list[Tensor] = []
    tables: list[dict[tuple[str, int], Tensor]] = []

    @torch.no_grad()
    def snapshot(model: CVAE) -> None:
        images = test.images[: recipe.snapshots]
        means.append(model.encode(images.to(model.device)).loc.to("cpu", torch.float16))

    for seed in recipe.seeds:
        observer = snapshot if recipe.snapshots and not runs else None
        model, history = train_recipe(name, seed, train, test, observer)
        if not runs:
            model.save_pretrained(folder / name, torch.float16)
        elif recipe.every_seed:
            model.save_pretrained(folder / name / f"seed-{seed}", torch.float16)
        if observer:
            terms = torch.tensor([[row.held_out_reconstruction, row.held_out_kl] for row in history])
            save_file({"means": torch.stack(means), "terms": terms}, folder / name / "snapshots.safetensors")
        runs.append({"seed": seed, "epochs": [_rounded(row._asdict()) for row in history]})
        if recipe.accuracy_draws:
            tables.append(scores_by_draws(model.to(torch.float16).float(), grey.images, recipe.accuracy_draws))
            runs[-1]["accuracy"] = accuracies(tables[-1], grey.labels)
    stored = CVAE.from_pretrained(folder / name)
    log = {
        "recipe": asdict(recipe),
        "data": [str(train), str(test)],
        "machine": machine(model.device),
        "shipped_seed": recipe.seeds[0],
        "stored_weights_test_loss": evaluate(stored, test).loss.item(),
        "runs": runs,
    }
    if recipe.evaluation_samples:
        values = estimate_log_likelihood(stored, test, recipe.evaluation_samples)
        log["stored_weights_test_log_likelihood"] = {
            "num_samples": recipe.evaluation_samples,
            "mean": values.mean().item(),
            "standard_error": values.std().item() / len(values) ** 0.5,
        }
    if len(tables) > 1:
        log["ensemble_accuracy"] = ensemble_accuracy(tables, grey.labels)
    (folder / name / "training.json").write_text(json.dumps(log, indent=1) + "\n")


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the history with four decimals, which is more than the noise of training leaves any meaning."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
