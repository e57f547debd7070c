"""What makes the gradient of a training step noisy: the choice of images, or the draws of codes (chapter 2)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cvae_lib.course.recipes import RECIPES, Observer, machine, seeded, train_recipe
from cvae_lib.data import load
from cvae_lib.loss import elbo
from cvae_lib.model import CVAE

LATENT_DIMS = (2, 8, 50)


def gradient_noise(model: CVAE, images: Tensor, seed: int = 0) -> dict[str, dict[str, float]]:
    """The two parts of the variance of a one-draw gradient of the loss, summed over the weights.

        V_draws = E[g . g] - E[g . g'],    V_images = E[g . g'] - E[g . g'']

    Here g and g' belong to one image and two independent draws, and g'' belongs to another image and draw. The
    gradient of a layer's weights is the slope at its outputs times its inputs, so products of gradients are products
    of two dot products, and no gradient has to be stored.

    Args:
        model: a `CVAE` without labels, all of whose weights are those of linear layers.
        images: shape (N, pixels), N at least 2, drawn at random.
        seed: of the draws of codes.

    Returns:
        For "encoder" and "decoder": "images", "draws" (both in squared nats), "share" of the draws in the sum, and
        the "error" of that share, one standard error over images.

    Equations: (2.13)
    """
    with seeded(seed):
        first, second = _layers(model, images), _layers(model, images)
    other = [(inputs.roll(1, 0), slopes.roll(1, 0)) for inputs, slopes in second]
    products = [_products(first, with_) for with_ in (first, second, other)]
    found = {}
    halves = zip(*(some.chunk(2, dim=1) for some in products), strict=True)  # as many layers in either network
    for part, half in zip(("encoder", "decoder"), halves, strict=True):
        a, b, c = (some.sum(1) for some in half)
        draws, total = (a - b).mean(), (a - c).mean()
        share = draws / total
        error = ((a - b) - share * (a - c)).std() / len(a) ** 0.5 / total
        values = {"images": total - draws, "draws": draws, "share": share, "error": error}
        found[part] = {name: value.item() for name, value in values.items()}
    return found


def _layers(model: CVAE, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of every linear layer, for one draw per image: its inputs, and the slopes of the loss at its outputs."""
    seen: list[tuple[Tensor, Tensor]] = []
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(lambda _, x, y: seen.append((x[0], y))) for layer in layers]
    loss = -elbo(model, images).sum()
    for hook in hooks:
        hook.remove()
    slopes = torch.autograd.grad(loss, [outputs for _, outputs in seen])
    return [(x.detach().flatten(0, -2), slope.flatten(0, -2)) for (x, _), slope in zip(seen, slopes, strict=True)]


def _products(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Dot products of gradients, weights and biases, for every image and layer, (N, layers)."""
    pairs = zip(one, other, strict=True)
    return torch.stack([((x * u).sum(1) + 1) * (s * t).sum(1) for (x, s), (u, t) in pairs], 1).double()


def noise_in_training(latent_dim: int, seed: int, dataset: str = "mnist") -> dict[str, Any]:
    """One row of the experiment "gradient-noise": the network of "vae-2d" with more latent dimensions.

    Returns:
        The share of the draws, of encoder and decoder, before training and after every epoch; of 2,000 training
        images, or all if there are fewer. At the end also its standard error.
    """
    recipe = replace(RECIPES["vae-2d"], model=RECIPES["vae-2d"].model | {"latent_dim": latent_dim})
    train = load(dataset, "train")
    some = train.sample(min(2000, len(train)), seed=0).images
    found: list[dict[str, dict[str, float]]] = []
    observer = Observer(lambda model: found.append(gradient_noise(model, some)))
    train_recipe(recipe, seed, train, None, [observer])
    row: dict[str, Any] = {"machine": machine(torch.device("cpu"))}
    for part in ("encoder", "decoder"):
        row[part] = [round(noise[part]["share"], 4) for noise in found]
        row[f"{part}_error"] = round(found[-1][part]["error"], 4)
    return row
