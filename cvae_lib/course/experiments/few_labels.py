"""A generative classifier and its opponents, trained on the same few labelled images."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from cvae_lib.course.experiments import stored_results
from cvae_lib.course.experiments.discriminative import convolutional, fully_connected, train_discriminative
from cvae_lib.course.recipes import RECIPES, Recipe, accuracies, machine, train_recipe
from cvae_lib.data import ImageSet, load
from cvae_lib.scores import scores_by_draws

NETWORKS = {"fully connected": fully_connected, "convolutional": convolutional}
DROPOUT = ((0.0, 0.0), (0.2, 0.5))
WEIGHT_DECAY = (0.0, 0.05)
CHOSEN_AT = (10, 100, 1000)
EVERYTHING = 6000  # more than there are of most labels: all 60,000 images


def some_of_each(data: ImageSet, per_class: int, seed: int) -> ImageSet:
    """As many images of each label, drawn without replacement; of a label that has fewer, all."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data), generator=generator)
    chosen = torch.cat([order[data.labels[order] == label][:per_class] for label in data.labels.unique()])
    return ImageSet(data.images[chosen], data.labels[chosen], f"{per_class} of each label of {data.name}")


def schedule(images: int, steps: int) -> dict[str, Any]:
    """Batch size and epochs for so many steps, or for 20 epochs where that is more."""
    batch_size = min(256, images)
    return {"batch_size": batch_size, "epochs": max(20, math.ceil(steps / math.ceil(images / batch_size)))}


def _generative(few: ImageSet, test: ImageSet, seed: int, steps: int) -> float:
    """The recipe of `cvae-50d`, scored by the ELBO with 5 draws."""
    network, training = RECIPES["cvae-50d"].model, RECIPES["cvae-50d"].fit | schedule(len(few), steps)
    model, _ = train_recipe(Recipe(network, training, start_at_mean=True), seed, few, None)
    return accuracies(scores_by_draws(model, test.images, (5,)), test.labels)["elbo"]["5"]


@torch.no_grad()
def _accuracy(network: Callable[[torch.Tensor], torch.Tensor], test: ImageSet) -> float:
    answers = torch.cat([network(some).argmax(1) for some in test.images.split(1000)])
    return (answers == test.labels).double().mean().item()


def _discriminative(few: ImageSet, test: ImageSet, seed: int, steps: int) -> float:
    """The layers of the generative model's encoder, regularised by jitter only."""
    return _accuracy(train_discriminative(few, seed=seed, **schedule(len(few), steps)), test)


def _train(
    kind: str, few: ImageSet, seed: int, steps: int, dropout: tuple[float, float], weight_decay: float
) -> nn.Module:
    """In 16 bits, as the generative model's recipe is trained."""
    return train_discriminative(
        few,
        network=partial(NETWORKS[kind], dropout=dropout),
        weight_decay=weight_decay,
        precision="bfloat16",
        seed=seed,
        **schedule(len(few), steps),
    )


def _regularised(kind: str, few: ImageSet, test: ImageSet, seed: int, steps: int) -> float:
    """With the dropout and the weight decay that were chosen on validation images."""
    return _accuracy(_train(kind, few, seed, steps, *chosen(kind, len(few) // 10)), test)


def _logistic_regression(few: ImageSet, test: ImageSet, seed: int, steps: int) -> float:
    """On pixels, with scikit-learn's penalty as it comes."""
    found = LogisticRegression(max_iter=steps, random_state=seed).fit(few.images.numpy(), few.labels.numpy())
    return float(found.score(test.images.numpy(), test.labels.numpy()))


def _nearest_neighbour(few: ImageSet, test: ImageSet, seed: int, steps: int) -> float:
    """The label of the nearest training image, by the distance of pixels."""
    found = KNeighborsClassifier(1).fit(few.images.numpy(), few.labels.numpy())
    return float(found.score(test.images.numpy(), test.labels.numpy()))


KINDS: dict[str, Callable[[ImageSet, ImageSet, int, int], float]] = {
    "generative": _generative,
    "discriminative": _discriminative,
    "regularised": partial(_regularised, "fully connected"),
    "convolutional": partial(_regularised, "convolutional"),
    "logistic regression": _logistic_regression,
    "nearest neighbour": _nearest_neighbour,
}
"""What is trained, by name, as functions of the images, the test images, a seed and a number of steps."""


def few_labels(kind: str, per_class: int, steps: int, draw: int, dataset: str = "mnist") -> dict[str, Any]:
    """Train one classifier on a few images of each label, and test it.

    All see the same images for the same draw; the networks see them jittered in the same way, and take as many steps of
    Adam with one cycle of its rate, or 20 epochs where that is more.

    Args:
        kind: a key of `KINDS`.
        per_class: images of each label.
        steps: of training; for logistic regression the most that its solver may take.
        draw: seed of the choice of images and of the training.
        dataset: of `load`.

    Returns:
        The accuracy on the test images, and the seconds it took.
    """
    train, test = load(dataset, "train"), load(dataset, "test")
    few = some_of_each(train, per_class, draw)
    start = time.perf_counter()
    accuracy = KINDS[kind](few, test, draw, steps)
    seconds = round(time.perf_counter() - start, 1)
    return {"accuracy": accuracy, "seconds": seconds, "machine": machine(train.images.device)}


def try_regularisation(
    network: str, per_class: int, dropout: tuple[float, float], weight_decay: float, dataset: str = "mnist"
) -> dict[str, Any]:
    """The accuracy of an opponent on the validation images, trained for 2,000 steps on images that are none of them."""
    fit, validation = load(dataset, "fit"), load(dataset, "validation")
    few = some_of_each(fit, per_class, seed=100)
    return {"accuracy": _accuracy(_train(network, few, 100, 2000, dropout, weight_decay), validation)}


def chosen(network: str, per_class: int) -> tuple[tuple[float, float], float]:
    """Dropout and weight decay with the highest validation accuracy, at the nearest number of images tried below."""
    tried = max(number for number in CHOSEN_AT if number <= max(per_class, min(CHOSEN_AT)))
    rows = stored_results("few-labels-choice")["rows"]
    rows = [row for row in rows if row["network"] == network and row["per_class"] == tried]
    best = max(rows, key=lambda row: row["accuracy"])
    inputs, hidden = best["dropout"]
    return (inputs, hidden), best["weight_decay"]
