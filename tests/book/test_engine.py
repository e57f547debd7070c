"""The engine of the live elements: it reads and computes what Python does."""

import base64

import numpy as np
import pytest
import torch
from live import EXPLORER, same
from playwright.sync_api import Page
from torch.distributions import Bernoulli

from cvae_lib.course.export import network
from cvae_lib.networks import MLP


def test_scripts_stay_small() -> None:
    assert sum(path.stat().st_size for path in EXPLORER.glob("*.js")) <= 40_000


def test_every_16_bit_number_is_read_as_what_it_is(page: Page) -> None:
    halves = np.arange(2**16, dtype="<u2").view("<f2")
    halves = halves[np.isfinite(halves)]
    text = base64.b64encode(halves.tobytes()).decode()
    assert page.evaluate("(text) => [...explorer.halves(text)]", text) == halves.astype(float).tolist()


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_networks_of_any_shape_give_what_python_gives(page: Page, activation: str) -> None:
    """Several rows with a label each, one row under several labels, and a network without labels."""
    torch.manual_seed(0)
    x, y = torch.rand(4, 7, dtype=torch.float64), torch.tensor([2, 0, 1, 2])
    forward = "([content, x, y]) => [...new explorer.MLP(content).forward(x, y)]"
    with_labels, without = (MLP((7, 9, 6, 5), labels, activation).half().double() for labels in (3, 0))
    for mlp, rows, labels in ((with_labels, x, y), (with_labels, x[:1], y), (without, x, None)):
        content = network(mlp)
        found = page.evaluate(forward, [content, rows.flatten().tolist(), None if labels is None else labels.tolist()])
        same(found, mlp(rows, labels).flatten(), 1e-6)


def test_the_bernoulli_log_likelihood_is_torchs(page: Page) -> None:
    logits = torch.tensor([-200.0, -3.0, 0.0, 0.5, 40.0, 200.0], dtype=torch.float64)
    x = torch.tensor([0.0, 0.25, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    found = page.evaluate("([x, logits]) => explorer.logLikelihood(x, logits)", [x.tolist(), logits.tolist()])
    same(found, Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(), 1e-9)
