"""A generative and a discriminative classifier, trained on the same few labelled images."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from cvae_lib.classifier import scores_by_draws
from cvae_lib.course.experiments.discriminative import train_discriminative
from cvae_lib.course.recipes import RECIPES, Recipe, accuracies, machine, train_recipe
from cvae_lib.data import ImageSet, load

LABELS_PER_CLASS = (10, 30, 100, 300, 1000, 5000)
_NETWORK = RECIPES["cvae-50d"].model
_SHORT = RECIPES["cvae-50d"].fit | {"epochs": 20}


def some_of_each(data: ImageSet, per_class: int, seed: int) -> ImageSet:
    """As many images of each label, drawn without replacement."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data), generator=generator)
    chosen = torch.cat([order[data.labels[order] == label][:per_class] for label in data.labels.unique()])
    return ImageSet(data.images[chosen], data.labels[chosen], f"{per_class} of each label of {data.name}")


def few_labels(
    dataset: str = "mnist", labels_per_class: Sequence[int] = LABELS_PER_CLASS, draws: int = 5, steps: int = 1000
) -> dict[str, Any]:
    """Train a generative and a discriminative classifier on the same few images, and test both.

    Both have the same layers up to the code or the logits, see images jittered in the same way, and take as many steps
    of Adam, or 20 epochs where that is more. The generative one is scored by the ELBO with 5 draws.

    Returns:
        One row for each number of images per class and each draw of them: both accuracies on the test images.
    """
    train, test = load(dataset, "train"), load(dataset, "test")
    rows = []
    for per_class in labels_per_class:
        for draw in range(draws):
            few = some_of_each(train, per_class, draw)
            batch_size = min(256, len(few))
            epochs = max(20, math.ceil(steps / math.ceil(len(few) / batch_size)))
            recipe = Recipe(_NETWORK, _SHORT | {"epochs": epochs, "batch_size": batch_size}, start_at_mean=True)
            start = time.perf_counter()
            model, _ = train_recipe(recipe, draw, few, None)
            middle = time.perf_counter()
            network = train_discriminative(few, epochs=epochs, batch_size=batch_size, seed=draw)
            end = time.perf_counter()
            with torch.no_grad():
                logits = network(test.images)
            scores = {**scores_by_draws(model, test.images, (5,)), ("discriminative", 1): logits}
            found = accuracies(scores, test.labels)
            rows.append(
                {
                    "per_class": per_class,
                    "draw": draw,
                    "generative": found["elbo"]["5"],
                    "discriminative": found["discriminative"]["1"],
                    "seconds": [round(middle - start, 1), round(end - middle, 1)],
                }
            )
    return {"machine": machine(model.device), "rows": rows}
