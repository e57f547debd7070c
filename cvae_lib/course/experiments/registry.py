"""Every long experiment by its name."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

from cvae_lib.checks import check_known
from cvae_lib.course.experiments import RESULTS, Row, run_missing, store_results
from cvae_lib.course.experiments.attacks import opponent
from cvae_lib.course.experiments.collapse import BETAS, TREATMENTS, treatment, with_beta
from cvae_lib.course.experiments.empty_page import WEIGHTS, empty_page, less_ink
from cvae_lib.course.experiments.few_labels import (
    CHOSEN_AT,
    DROPOUT,
    EVERYTHING,
    NETWORKS,
    WEIGHT_DECAY,
    few_labels,
    try_regularisation,
)
from cvae_lib.course.experiments.gradients import LATENT_DIMS, noise_in_training
from cvae_lib.course.experiments.ladder import LADDER, climb
from cvae_lib.course.experiments.overfitting import seen_and_unseen
from cvae_lib.course.experiments.planes import PLANES, TEACHERS, encoder_alone, planes
from cvae_lib.course.experiments.tightness import RUNGS, tightness

EXPERIMENTS: dict[str, Callable[[], Row]] = {
    "less-ink": less_ink,
    "opponent": opponent,
}
"""Experiments that return all of their results at once, by name."""

_FEW_LABELS = [
    *product(("generative", "discriminative"), (10, 30, 100, 300, 1000, 5000), (1000,), range(5)),
    *product(("generative", "discriminative"), (10, 100, 1000), (5000,), range(5)),
    *product(("logistic regression", "nearest neighbour"), (10, 100, 300, 1000), (1000,), range(5)),
    *product(("logistic regression", "nearest neighbour"), (EVERYTHING,), (1000,), range(1)),  # nothing is drawn
    *product(("regularised",), (10, 100, 1000), (5000,), range(5)),
    *product(("generative", "regularised"), (10, 100, 1000), (15_000,), range(5)),
    *product(("convolutional",), (10, 100, 1000), (5000,), range(5)),
    *product(("generative", "regularised", "convolutional"), (300,), (5000,), range(5)),
    *product(("regularised",), (EVERYTHING,), (15_000,), range(5)),
    *product(("convolutional",), (EVERYTHING,), (5000,), range(5)),
]

SWEEPS: dict[str, tuple[list[Row], Callable[..., Row]]] = {
    "ladder": ([{"rung": name} for name in LADDER], climb),
    "collapse": ([{"name": name, "seed": seed} for seed in range(3) for name in TREATMENTS], treatment),
    "few-labels-choice": (
        [
            {"network": network, "per_class": per_class, "dropout": dropout, "weight_decay": weight_decay}
            for network, per_class, dropout, weight_decay in product(NETWORKS, CHOSEN_AT, DROPOUT, WEIGHT_DECAY)
        ],
        try_regularisation,
    ),
    "few-labels": (
        [dict(zip(("kind", "per_class", "steps", "draw"), row, strict=True)) for row in _FEW_LABELS],
        few_labels,
    ),
    "gradient-noise": (
        [{"latent_dim": latent_dim, "seed": 0} for latent_dim in LATENT_DIMS],
        noise_in_training,
    ),
    "overfitting": ([{"seed": seed} for seed in range(3)], seen_and_unseen),
    "planes": ([{"networks": networks, "seed": seed} for networks, seed in PLANES], planes),
    "wrong-labels": ([{"labels": labels} for labels in TEACHERS], encoder_alone),
    "empty-page": ([{"weights": weights} for weights in WEIGHTS], empty_page),
    "tightness": ([{"rung": rung} for rung in RUNGS], tightness),
    "large-beta": ([{"beta": beta, "seed": seed} for seed in range(3) for beta in BETAS], with_beta),
}
"""Experiments of many runs, by name, with their settings and what is run under each; see `run_missing`."""


def make_results(name: str, folder: Path = RESULTS) -> None:
    """Run an experiment by its name, and store what it finds; of a sweep only the runs that are not stored yet.

    Raises:
        ValueError: there is no experiment of that name.
    """
    check_known("experiment", name, [*EXPERIMENTS, *SWEEPS])
    if name in SWEEPS:
        run_missing(name, *SWEEPS[name], folder)
    else:
        store_results(name, EXPERIMENTS[name](), folder)
