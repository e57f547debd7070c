"""The two sources of noise in a training step: the products behind the reckoning, and what is stored of it."""

import pytest
import torch

from cvae_lib import CVAE, elbo
from cvae_lib.course import experiments
from cvae_lib.course.experiments import gradients


def test_both_parts_of_the_noise_are_those_of_gradients_taken_one_by_one():
    """(2.13) by plain autograd: a gradient for every image and draw, all of them stored."""
    torch.manual_seed(0)
    model = CVAE(6, (5, 4), 2)
    images = torch.rand(4000, 6)
    found = gradients.gradient_noise(model, images)
    parts = {"encoder": list(model.encoder.parameters()), "decoder": list(model.decoder.parameters())}
    for name, weights in parts.items():
        g = torch.stack([torch.stack([_flat_gradient(model, x, weights) for _ in range(8)]) for x in images[:400]])
        draws = g.var(1).sum(-1).mean()
        spread = g.mean(1).var(0).sum() - draws / 8
        assert found[name]["share"] == pytest.approx((draws / (draws + spread)).item(), abs=0.05)
        assert found[name]["draws"] + found[name]["images"] == pytest.approx((draws + spread).item(), rel=0.15)
        assert 0 < found[name]["error"] < 0.1


def _flat_gradient(model: CVAE, x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(-elbo(model, x[None]).sum(), weights)])


def test_without_a_second_image_or_a_posterior_that_is_wide_there_is_one_source_only():
    """All images equal: (2.13) has draws only. A posterior without width: it has images only."""
    torch.manual_seed(0)
    model = CVAE(6, (5,), 2)
    same = torch.rand(1, 6).expand(2000, 6)
    for part in gradients.gradient_noise(model, same).values():
        assert part["share"] == pytest.approx(1, abs=4 * part["error"] + 0.02)
    with torch.no_grad():
        model.encoder.body.rest[-1].bias[2:] = -30.0  # log-variances
    for part in gradients.gradient_noise(model, torch.rand(2000, 6)).values():
        assert part["share"] == pytest.approx(0, abs=1e-3)


def test_the_experiment_looks_before_training_and_after_every_epoch(monkeypatch):
    monkeypatch.setitem(
        gradients.RECIPES,
        "vae-2d",
        gradients.replace(gradients.RECIPES["vae-2d"], fit={"epochs": 2, "batch_size": 500}),
    )
    row = gradients.noise_in_training(3, 0, dataset="digits")
    assert len(row["encoder"]) == len(row["decoder"]) == 3
    assert all(0 < share < 1 for part in ("encoder", "decoder") for share in row[part][1:])
    assert 0 < row["decoder_error"] < 0.1


def test_with_more_codes_more_of_the_noise_is_draws():
    """What chapter 2 says: the draw is the small part with two codes only, and the encoder has more of it."""
    rows = experiments.stored_results("gradient-noise")["rows"]
    for seed in {row["seed"] for row in rows}:
        few, some, many = (row for row in rows if row["seed"] == seed)
        assert (few["latent_dim"], some["latent_dim"], many["latent_dim"]) == gradients.LATENT_DIMS
        assert few["decoder"][-1] + 0.1 < some["decoder"][-1] < many["decoder"][-1] - 0.1
        assert few["encoder"][-1] + 0.1 < some["encoder"][-1] < many["encoder"][-1]
        assert few["decoder"][-1] < 0.2 < 0.5 < many["decoder"][-1]
        assert all(row["decoder"][-1] < row["encoder"][-1] for row in (few, some, many))
