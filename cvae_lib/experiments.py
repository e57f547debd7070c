"""Experiments of chapter 10 that are too long for a notebook; their results come with the package."""

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from foolbox.attacks.base import MinimizationAttack
from foolbox.attacks.ddn import DDNAttack
from foolbox.attacks.fast_minimum_norm import LInfFMNAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from cvae_lib.classifier import scores_by_draws
from cvae_lib.data import ImageSet, load
from cvae_lib.loss import elbo_terms
from cvae_lib.model import CVAE, check_known
from cvae_lib.networks import MLP
from cvae_lib.recipes import RECIPES, Recipe, accuracies, data_of, machine, train_recipe
from cvae_lib.train import seeded
from cvae_lib.transforms import jitter

RESULTS = Path(__file__).parent / "results"

_GREY = {"epochs": 20}
_NETWORK = RECIPES["cvae-50d"].model
_SHORT = RECIPES["cvae-50d"].fit | {"epochs": 20}


def _rung(model: dict[str, Any], arguments: dict[str, Any], **rest: Any) -> Recipe:
    return Recipe(model, arguments, seeds=(0,), split="fit", **rest)


_SMALL = {"pixels": 784, "hidden_sizes": (512, 256), "num_labels": 10}
_CONVOLUTIONAL = _NETWORK | {"hidden_sizes": (32, 64, 256), "body": "convolutional"}
LADDER = {
    "2 dim.": _rung(_SMALL | {"latent_dim": 2}, _GREY),
    "16 dim.": _rung(_SMALL | {"latent_dim": 16}, _GREY),
    "50 dim.": _rung(_SMALL | {"latent_dim": 50}, _GREY),
    "binarised": _rung(_SMALL | {"latent_dim": 50}, _GREY | {"transform": ("binarise",)}),
    "one cycle": _rung(_SMALL | {"latent_dim": 50}, _SHORT | {"transform": ("binarise",)}, start_at_mean=True),
    "wider": _rung(_NETWORK, _SHORT | {"transform": ("binarise",)}, start_at_mean=True),
    "shifted": _rung(_NETWORK, _SHORT | {"transform": ("shift", "binarise")}, start_at_mean=True),
    "jittered": _rung(_NETWORK, _SHORT, start_at_mean=True),
    "conv.": _rung(_CONVOLUTIONAL, _SHORT),
    "conv. 75": _rung(_CONVOLUTIONAL, _SHORT | {"epochs": 75}),
}
"""The rungs of chapter 10's ladder that no weights are kept of, by what is new. Trained on "fit", read on "validation".

"one cycle" is the training of "cvae-50d": batch size, rate, schedule, precision and start, changed together. "jittered"
takes jitter in place of shifts. All have 20 epochs, but "conv. 75", which takes about as long as the 300 of
"cvae-50d".
"""

LABELS_PER_CLASS = (10, 30, 100, 300, 1000, 5000)


def ladder() -> dict[str, Any]:
    """Train every rung of `LADDER` and classify the validation images by every bound, with 1 and with 10 draws.

    One more score is the source document's, "reconstruction with fresh noise": one draw, another one for every label,
    where `scores_by_draws` takes the same noise for all labels of an image.

    Returns:
        For each rung its recipe, number of weights, seconds of training, accuracies by score and K, the places of
        the misread images by both bounds with 10 draws, for paired tests, and margin and noise of the first 1,000
        images, see `margin_and_noise`.
    """
    rungs = {}
    for name, recipe in LADDER.items():
        train, validation = data_of(recipe)
        model, history = train_recipe(recipe, 0, train, validation)
        scores = scores_by_draws(model, validation.images, (1, 10))
        scores["reconstruction with fresh noise", 1] = one_reconstruction(model, validation.images)
        wrong = {
            f"{bound} {K}": (scores[bound, K].argmax(1) != validation.labels).nonzero().flatten().tolist()
            for bound, K in (("elbo", 10), ("importance_weighted", 10))
        }
        margin, noise = margin_and_noise(model, validation.images[:1000], validation.labels[:1000])
        rungs[name] = {
            "model": recipe.model,
            "fit": recipe.fit,
            "weights": sum(weight.numel() for weight in model.parameters()),
            "seconds": round(sum(history.column("seconds"))),
            "validation_loss": round(history[-1].held_out_loss or math.nan, 4),
            "accuracy": accuracies(scores, validation.labels),
            "margin": round(margin, 4),
            "noise": round(noise, 4),
            "wrong": wrong,
        }
    return {"machine": machine(model.device), "rungs": rungs}


@torch.no_grad()
def one_reconstruction(model: CVAE, x: Tensor, seed: int = 0) -> Tensor:
    """log p(x | z, y) for every image under every label, (images, labels), each with a code of its own, in nats.

    Equations: (9.4)
    """
    labels = torch.arange(model.num_labels)
    with seeded(seed):
        return -torch.cat([elbo_terms(model, chunk[:, None], labels).reconstruction for chunk in x.split(500)])


def margin_and_noise(model: CVAE, x: Tensor, y: Tensor, rounds: int = 8) -> tuple[float, float]:
    """What a comparison of two labels by one reconstruction has to find, and the noise it has to find it in.

        margin = ELBO(x, y) - ELBO(x, c),   c the wrong label with the highest ELBO, 10 draws
        noise = standard deviation of r(x, y) - r(x, c) over draws, each label with a draw of its own

    Args:
        model: a `CVAE` with labels.
        x: images, shape (images, pixels).
        y: their labels, shape (images,).
        rounds: how often each pair is drawn, at least 2.

    Returns:
        The means of both over the images, in nats.

    Equations: (9.4)
    """
    y = y[:, None]
    bound = scores_by_draws(model, x, (10,))["elbo", 10]
    rival = bound.scatter(1, y, -torch.inf).argmax(1, keepdim=True)
    draws = torch.stack([one_reconstruction(model, x, seed) for seed in range(rounds)])
    pairs = draws.gather(2, torch.cat([y, rival], 1).expand(rounds, -1, -1))
    margin = bound.gather(1, y) - bound.gather(1, rival)
    return margin.mean().item(), (pairs[..., 0] - pairs[..., 1]).std(0).mean().item()


def train_discriminative(
    data: ImageSet,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    transform: Callable[[Tensor], Tensor] = jitter,
    seed: int = 0,
) -> nn.Module:
    """A network that models p(y | x) directly: the layers of `cvae-50d`'s encoder, then one logit for each label.

        minimise the mean over the batch of  -log softmax(network(x))_y

    Adam and one cycle of its rate, as `fit` does for the generative model.

    Args:
        data: images with labels 0, 1, ...
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: the highest of the cycle.
        transform: done to every batch of images.
        seed: of initial weights, order and transform.

    Returns:
        The network, from images (..., pixels) to logits (..., labels).
    """
    sizes = (data.images.shape[1], *_NETWORK["hidden_sizes"], int(data.labels.max()) + 1)
    with seeded(seed):
        network = MLP(sizes, activation=_NETWORK["activation"])
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        scheduler = OneCycleLR(optimizer, learning_rate, epochs * -(-len(data) // batch_size))
        for _ in range(epochs):
            for batch in torch.randperm(len(data)).split(batch_size):
                loss = cross_entropy(network(transform(data.images[batch])), data.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    return network.eval()


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


def smallest_changes(
    network: nn.Module, x: Tensor, y: Tensor, attack: MinimizationAttack, norm: float
) -> tuple[Tensor, Tensor]:
    """The nearest images, in black and white at most, that an attack finds a classifier to misread.

    Args:
        network: from images (images, pixels) to one score for each label, differentiable, without dice.
        x: images that it reads correctly, in [0, 1].
        y: their labels.
        attack: one of foolbox that looks for the smallest change.
        norm: 2 or infinity, how a change is measured.

    Returns:
        The changed images, and for each the norm of its change; infinite where the network still reads it correctly.
    """
    with torch.enable_grad():
        wrapped = PyTorchModel(network.eval(), bounds=(0, 1), device=x.device)
        _, changed, _ = attack(wrapped, x, y, epsilons=None)
    with torch.no_grad():
        fooled = network(changed).argmax(1) != y
    return changed, torch.where(fooled, torch.linalg.vector_norm(changed - x, norm, 1), torch.inf)


ATTACKS = {"L2": (DDNAttack, 2), "Linf": (LInfFMNAttack, torch.inf)}
"""By the name of a norm the attack that looks for the smallest change in it, and the norm.

Source: Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and defenses",
2019; Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints", 2021.
"""


def opponent(dataset: str = "mnist", epochs: Sequence[int] = (10, 300), victims: int = 50) -> dict[str, Any]:
    """Train the discriminative network of chapter 10 for a short and for a long time, and attack both.

    The victims are the first test images that all of them read correctly.

    Returns:
        For each number of epochs the accuracy on the test images and the median change by both attacks of `ATTACKS`.
    """
    train, test = load(dataset, "train"), load(dataset, "test")
    networks = [train_discriminative(train, epochs=number).requires_grad_(False) for number in epochs]
    answers = torch.stack([network(test.images).argmax(1) for network in networks])
    chosen = (answers == test.labels).all(0).nonzero().flatten()[:victims]
    rows = []
    for network, number, answer in zip(networks, epochs, answers, strict=True):
        row: dict[str, Any] = {"epochs": number, "accuracy": (answer == test.labels).double().mean().item()}
        for name, (attack, norm) in ATTACKS.items():
            _, sizes = smallest_changes(network, test.images[chosen], test.labels[chosen], attack(steps=100), norm)
            row[name] = sizes.median().item()
        rows.append(row)
    return {"machine": machine(train.images.device), "rows": rows}


EXPERIMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ladder": ladder,
    "few-labels": few_labels,
    "opponent": opponent,
    "few-labels-5000-steps": partial(few_labels, labels_per_class=(10, 100, 1000), steps=5000),
}


def make_results(name: str, folder: Path = RESULTS) -> None:
    """Run an experiment by its name, and store what it returns.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, EXPERIMENTS)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(EXPERIMENTS[name](), indent=1) + "\n")


def stored_results(name: str) -> dict[str, Any]:
    """What an experiment found when it was last run; it comes with the package.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, EXPERIMENTS)
    return json.loads((RESULTS / f"{name}.json").read_text())  # type: ignore[no-any-return]
