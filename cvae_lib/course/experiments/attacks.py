"""How small a change of an image fools a classifier."""

from collections.abc import Sequence
from typing import Any

import torch
from foolbox.attacks.base import MinimizationAttack
from foolbox.attacks.ddn import DDNAttack
from foolbox.attacks.fast_minimum_norm import LInfFMNAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from cvae_lib.course.experiments.discriminative import train_discriminative
from cvae_lib.course.recipes import machine
from cvae_lib.data import load


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

    The victims are random test images that all of them read correctly.

    Returns:
        For each number of epochs the accuracy on the test images and the median change by both attacks of `ATTACKS`.
    """
    train, test = load(dataset, "train"), load(dataset, "test")
    networks = [train_discriminative(train, epochs=number).requires_grad_(False) for number in epochs]
    answers = torch.stack([network(test.images).argmax(1) for network in networks])
    readable = (answers == test.labels).all(0).nonzero().flatten()
    chosen = readable[torch.randperm(len(readable), generator=torch.Generator().manual_seed(0))[:victims]]
    rows = []
    for network, number, answer in zip(networks, epochs, answers, strict=True):
        row: dict[str, Any] = {"epochs": number, "accuracy": (answer == test.labels).double().mean().item()}
        for name, (attack, norm) in ATTACKS.items():
            _, sizes = smallest_changes(network, test.images[chosen], test.labels[chosen], attack(steps=100), norm)
            row[name] = sizes.median().item()
        rows.append(row)
    return {"machine": machine(train.images.device), "rows": rows}
