"""The weights that come with the package: read a recipe, train it, evaluate the models, store them with their log."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from cvae_lib.callbacks import History
from cvae_lib.checks import look_up
from cvae_lib.course.recipes import RECIPES, Observer, Recipe, accuracies, data_of, machine, train_recipe
from cvae_lib.data import ImageSet
from cvae_lib.evaluation import estimate_log_likelihood, evaluate
from cvae_lib.model import CVAE
from cvae_lib.pretrained import WEIGHTS
from cvae_lib.scores import scores_by_draws

Scores = dict[tuple[str, int], Tensor]


class Run(NamedTuple):
    """What one seed gave: the model, its history, and snapshots of the posterior means, (epochs + 1, images, J)."""

    seed: int
    model: CVAE
    history: History
    snapshots: list[Tensor]


def make_weights(name: str, folder: Path = WEIGHTS) -> None:
    """Train a recipe with all its seeds; store the first seed's weights (fp16) and `training.json`, the log.

    A recipe that binarises has its loss tested on images binarised once; accuracies are those of the stored weights on
    the grey images. With several seeds there is also the accuracy of all together, see `ensemble_accuracy`.
    Where the recipe wants snapshots, those of the first seed are stored in `snapshots.safetensors`: the means
    (epochs + 1, images, latent_dim), fp16, and the terms of the test loss (epochs, 2), reconstruction and KL.

    Raises:
        ValueError: there is no recipe of that name.
    """
    recipe = look_up("recipe", name, RECIPES)
    train, grey = data_of(recipe)
    test = grey.binarised() if "binarise" in recipe.fit.get("transform", ()) else grey
    runs = train_runs(recipe, train, test)
    store_weights(runs if recipe.every_seed else runs[:1], folder / name)
    log = {"recipe": asdict(recipe), "data": [str(train), str(test)], "machine": machine(runs[0].model.device)}
    log |= evaluate_runs(recipe, runs, CVAE.from_pretrained(folder / name), test, grey)
    (folder / name / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    (folder / name / "README.md").write_text(card(name, log))


def figures_of(log: dict[str, Any]) -> dict[str, str]:
    """What a card says of how well the stored weights do: what, and how much."""
    shipped = next(run for run in log["runs"] if run["seed"] == log["shipped_seed"])
    last = shipped["epochs"][-1]
    trained = "training loss, running average over the last epoch, on images as they were transformed"
    figures = {
        trained: f"{last['loss']:.2f} nats an image",
        f"loss on {log['data'][1]}, as stored": f"{log['stored_weights_test_loss']:.2f} nats an image",
    }
    if "stored_weights_test_log_likelihood" in log:
        bound = log["stored_weights_test_log_likelihood"]
        figures[f"importance-weighted bound on log p(x), K = {bound['num_samples']:,}"] = (
            f"{bound['mean']:.2f} nats, standard error over images {bound['standard_error']:.2f}"
        )
    for bound, values in shipped.get("accuracy", {}).items():
        K, value = list(values.items())[-1]
        figures[f"accuracy as a classifier by {bound.replace('_', ' ')}, K = {K}"] = f"{100 * value:.2f} %"
    return figures


def card(name: str, log: dict[str, Any]) -> str:
    """The model card of stored weights, from their log: what they are, their data, their figures, their licence."""
    recipe, figures = log["recipe"], figures_of(log)
    lines = [f"| {what} | {figure} |" for what, figure in figures.items()]
    model = json.dumps(recipe["model"])
    kind = "conditional variational autoencoder" if recipe["model"].get("num_labels") else "variational autoencoder"
    return f"""---
license: mit
library_name: cvae-lib
tags: [vae, cvae, mnist]
---

# {name}

A {kind} of the course "Variational autoencoders, from the bound to the classifier".
Load it by `CVAE.from_pretrained("{name}")`.

- Trained on: {log["data"][0]}. Digits only: any other image is a stranger to it.
- Model: `{model}`
- Training: `{json.dumps(recipe["fit"])}`, seed {log["shipped_seed"]} of {len(log["runs"])}, on {log["machine"]}.
- The log of every epoch and seed is in `training.json`.
- Licence of the weights: MIT.

| figure | value |
|---|---|
{chr(10).join(lines)}

Nats of grey and of binarised images are two scales.
"""


def train_runs(recipe: Recipe, train: ImageSet, test: ImageSet) -> list[Run]:
    """One run for each seed of a recipe; the first one with snapshots, where the recipe wants them."""
    runs: list[Run] = []
    for seed in recipe.seeds:
        means: list[Tensor] = []
        keep = partial(_keep_means, means, test.images[: recipe.snapshots])
        callbacks = [Observer(keep)] if recipe.snapshots and not runs else []
        runs.append(Run(seed, *train_recipe(recipe, seed, train, test, callbacks), means))
    return runs


@torch.no_grad()
def _keep_means(kept: list[Tensor], images: Tensor, model: CVAE) -> None:
    """Add the posterior means of images, in 16 bits."""
    kept.append(model.encode(images.to(model.device)).loc.to("cpu", torch.float16))


def store_weights(runs: Sequence[Run], folder: Path) -> None:
    """The first run's weights in the folder, those of the others in folders of their own inside; in 16 bits."""
    for run in runs:
        run.model.save_pretrained(folder if run is runs[0] else folder / f"seed-{run.seed}", torch.float16)
    if runs[0].snapshots:
        terms = torch.tensor([[row.held_out_reconstruction, row.held_out_kl] for row in runs[0].history])
        save_file({"means": torch.stack(runs[0].snapshots), "terms": terms}, folder / "snapshots.safetensors")


def evaluate_runs(recipe: Recipe, runs: Sequence[Run], stored: CVAE, test: ImageSet, grey: ImageSet) -> dict[str, Any]:
    """What the log says of the trained models: every epoch of every seed, and what the recipe wants to know besides."""
    log: dict[str, Any] = {
        "shipped_seed": runs[0].seed,
        "stored_weights_test_loss": evaluate(stored, test).loss.item(),
        "runs": [{"seed": run.seed, "epochs": [_rounded(row._asdict()) for row in run.history]} for run in runs],
    }
    if recipe.evaluation_samples:
        values = estimate_log_likelihood(stored, test, recipe.evaluation_samples)
        error = values.std().item() / len(values) ** 0.5
        bound = {"num_samples": recipe.evaluation_samples, "mean": values.mean().item(), "standard_error": error}
        log["stored_weights_test_log_likelihood"] = bound
    if recipe.accuracy_draws:
        halves = [run.model.to(torch.float16).float() for run in runs]
        tables = [scores_by_draws(model, grey.images, recipe.accuracy_draws) for model in halves]
        for run, table in zip(log["runs"], tables, strict=True):
            run["accuracy"] = accuracies(table, grey.labels)
        if len(tables) > 1:
            log["ensemble_accuracy"] = ensemble_accuracy(tables, grey.labels)
    return log


def ensemble_accuracy(tables: Sequence[Scores], labels: Tensor) -> dict[str, dict[str, dict[str, float]]]:
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


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the history with four decimals, which is more than the noise of training leaves any meaning."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
