"""Whether a code means the same hand under every label, and what an encoder is worth under a wrong one."""

from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from cvae_lib.classifier import GenerativeClassifier
from cvae_lib.course.recipes import RECIPES, machine, seeded, train_recipe
from cvae_lib.data import ImageSet, load
from cvae_lib.loss import elbo, importance_weighted_bound
from cvae_lib.model import CVAE
from cvae_lib.quadrature import log_likelihood_by_quadrature
from cvae_lib.train import fit

LABELS = 10
PLANES = (*product(("one",), (1, 2, 3)), *product(("ten",), (0, 1, 2)))
"""Networks and seeds of the experiment "planes". The weights that ship are those of one network and seed 0."""
TEACHERS = ("as shipped", "true", "random")
"""From which labels the encoder learns in the experiment "wrong-labels"."""


def ink(images: Tensor) -> Tensor:
    """The sum of the pixels; images (..., 28 * 28)."""
    return images.sum(-1)


def slant(images: Tensor) -> Tensor:
    """How far the strokes lean: the slope of u on v, both from the centre of the ink, weighted by brightness.

        slant = sum_i m_i u_i v_i / sum_i m_i v_i^2

    This is (8.2). Zero is upright, positive leans to the right; images (..., 28 * 28).
    """
    m = images.unflatten(-1, (28, 28)) / ink(images)[..., None, None]
    place = torch.arange(28.0)
    v = -(place - (m.sum(-1) @ place)[..., None])  # upwards, one per row
    u = place - (m.sum(-2) @ place)[..., None]  # to the right, one per column
    uv = v[..., :, None] * u[..., None, :]
    found: Tensor = (m * uv).sum((-1, -2)) / (m.sum(-1) * v**2).sum(-1)
    return found


@torch.no_grad()
def shared_style(z: Tensor, decoded: Tensor) -> dict[str, float]:
    """What codes (codes, 2) share under ten labels, from their images (codes, labels, pixels).

    Correlations over codes between two labels, averaged over pairs of labels: of slant, its lowest and the average of
    its size; of ink, without label 1 and with it, and the lowest and highest of these. "slant_is_linear" is the part
    of the variance of slant that is a linear function of the code, averaged over labels: near 1, each plane has a
    direction of slant.
    """
    slants, inks = slant(decoded), ink(decoded)
    first, second = torch.triu_indices(LABELS, LABELS, 1)
    with_1 = (first == 1) | (second == 1)
    of_slant, of_ink = (values.T.corrcoef()[first, second] for values in (slants, inks))
    columns = torch.cat([z, torch.ones(len(z), 1)], 1)
    rest = slants - columns @ torch.linalg.lstsq(columns, slants).solution
    found = {
        "slant": of_slant.mean(),
        "slant_lowest": of_slant.min(),
        "slant_size": of_slant.abs().mean(),
        "slant_is_linear": (1 - rest.var(0) / slants.var(0)).mean(),
        "ink_without_1": of_ink[~with_1].mean(),
        "ink_with_1": of_ink[with_1].mean(),
        "ink_with_1_lowest": of_ink[with_1].min(),
        "ink_with_1_highest": of_ink[with_1].max(),
    }
    return {name: round(value.item(), 3) for name, value in found.items()}


def of_label(data: ImageSet, label: int) -> ImageSet:
    """The images of one label."""
    chosen = data.labels == label
    return ImageSet(data.images[chosen], data.labels[chosen], f"{data.name}, label {label}")


def planes(networks: str, seed: int, *, dataset: str = "mnist", epochs: int | None = None) -> dict[str, Any]:
    """One row of the experiment "planes": the style that 1,000 codes share under ten labels.

    "one": the network of chapter 7, which differs from label to label by biases. "ten": for every label a VAE of the
    same layers with initial weights of its own, trained by the same recipe on the images of that label; so these share
    nothing.
    """
    recipe, train = RECIPES["cvae-2d"], load(dataset, "train")
    recipe = replace(recipe, fit=recipe.fit | ({"epochs": epochs} if epochs else {}))
    with seeded(seed):
        z = torch.randn(1000, 2)
    if networks == "one":
        model, _ = train_recipe(recipe, seed, train, None)
        with torch.no_grad():
            decoded = model.decode(z[:, None], torch.arange(LABELS)).mean
    else:
        alone = replace(recipe, model=recipe.model | {"num_labels": 0})
        means = []
        for label in range(LABELS):
            model, _ = train_recipe(alone, LABELS * (seed + 1) + label, of_label(train, label), None)
            with torch.no_grad():
                means.append(model.decode(z).mean)
        decoded = torch.stack(means, 1)
    return {"machine": machine(torch.device("cpu"))} | shared_style(z, decoded)


def gaps(model: CVAE, test: ImageSet, *, images: int = 200, draws: int = 256) -> dict[str, float]:
    """How far bounds lie below log p(x | y) by quadrature, in nats, over random test images.

    "true", "wrong": the ELBO's gap, averaged over images and labels; "wrong_median": its median. "rival_1",
    "rival_256": what the importance-weighted bound with so many draws lacks under the best wrong label.
    """
    few, labels = test.sample(images, seed=0), torch.arange(LABELS)
    x = few.images
    true = one_hot(few.labels, LABELS).bool()
    with torch.no_grad(), seeded(0):
        log_p = log_likelihood_by_quadrature(model, x[:, None], labels)
        gap = log_p - elbo(model, x[:, None], labels, num_samples=20)
        rival = log_p.masked_fill(true, -torch.inf).argmax(1)
        at_rival = log_p.gather(1, rival[:, None])[:, 0]
        log_w = torch.stack([importance_weighted_bound(model, x, rival) for _ in range(draws)])
        many = log_w.logsumexp(0) - torch.tensor(draws).log()
    found = {
        "true": gap[true].mean(),
        "wrong": gap[~true].mean(),
        "wrong_median": gap[~true].median(),
        "rival_1": (at_rival - log_w).mean(),
        f"rival_{draws}": (at_rival - many).mean(),
    }
    return {name: round(value.item(), 3) for name, value in found.items()}


def encoder_alone(labels: str, *, dataset: str = "mnist", epochs: int = 4, seed: int = 0) -> dict[str, Any]:
    """One row of the experiment "wrong-labels": the encoder of "cvae-2d" trained on with the decoder held fixed.

    labels: "as shipped" for no training, "true" for the images' own labels, "random" for labels drawn anew at random
    for every image. The model p(x | y) is the same in all three, only the proposals q(z | x, y) change.
    """
    model, train, test = CVAE.from_pretrained("cvae-2d"), load(dataset, "train"), load(dataset, "test")
    if labels != "as shipped":
        for weight in model.decoder.parameters():
            weight.requires_grad_(False)
        for epoch in range(epochs):
            drawn = train.labels
            if labels == "random":
                drawn = torch.randint(LABELS, drawn.shape, generator=torch.Generator().manual_seed(100 * seed + epoch))
            fit(model, ImageSet(train.images, drawn, f"{train.name}, labels {labels}"), epochs=1, seed=epoch)
    accuracy = GenerativeClassifier(model, "elbo", 10).score(test.images, test.labels)
    return {"machine": machine(model.device), "accuracy": round(float(accuracy), 4)} | gaps(model, test)
