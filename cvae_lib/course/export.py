"""Weights and codes for the live elements of the book's pages, as script files.

A page that is opened from a file may not fetch anything, but it may load scripts. So each file is a call of the
function `explorer.deliver` with a name and an object; long arrays of numbers stand in it as base64 of little-endian
16-bit floats, which is how the weights are stored anyway.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from cvae_lib.classifier import GenerativeClassifier
from cvae_lib.data import load
from cvae_lib.model import CVAE
from cvae_lib.networks import MLP
from cvae_lib.pretrained import WEIGHTS

EXPORTED = {
    "vae-2d": ("decoder", "codes", "replay"),
    "cvae-2d": ("encoder", "decoder", "codes", "histogram"),
    "cvae-50d": ("encoder", "decoder", "histogram"),
}
"""The weights that pages run, and what of them: networks, codes, the replay of their training, the
histogram of log p(x)."""
NUM_CODES = 1000
BIN = 5.0  # nats


def base64_halves(*tensors: Tensor) -> str:
    """All numbers of the tensors, one after the other, as 16-bit floats."""
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    return base64.b64encode(flat.numpy().astype("<f2").tobytes()).decode()


def digits(labels: Tensor) -> str:
    """One digit for each label."""
    return "".join(str(label) for label in labels.tolist())


def network(mlp: MLP) -> dict[str, Any]:
    """Sizes, activation and numbers of a network: layer by layer the weights, one input after the other, then the bias.

    The first layer of a network with labels has a bias for each label.
    """
    layers = [mlp.first, *mlp.rest[1::2]]
    first_bias = mlp.first.bias if mlp.label_bias is None else mlp.label_bias.weight
    numbers = [mlp.first.weight.T, first_bias]
    for layer in layers[1:]:
        numbers += [layer.weight.T, layer.bias]
    return {
        "sizes": [mlp.first.in_features, *(layer.out_features for layer in layers)],
        "labels": 0 if mlp.label_bias is None else mlp.label_bias.num_embeddings,
        "activation": type(mlp.rest[0]).__name__.lower(),
        "numbers": base64_halves(*numbers),
    }


def codes(model: CVAE, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """The posteriors of images under their true labels: one digit for each label, and each mean with its sigma."""
    with torch.no_grad():
        posterior = model.encode(images, labels if model.num_labels else None)
    return {
        "labels": digits(labels),
        "numbers": base64_halves(torch.cat([posterior.loc, posterior.scale], dim=-1)),
    }


def histogram(model: CVAE, images: Tensor) -> dict[str, Any]:
    """How many images have their log p(x) in which bin of nats, from the lowest on, with no image outside.

    log p(x) = log sum_y p(x | y) p(y),    log p(x | y) by the ELBO with one draw, p(y) uniform
    """
    classifier = GenerativeClassifier(model)
    evidence = (classifier.log_likelihood(images) + classifier.log_prior).logsumexp(-1)
    low, high = BIN * math.floor(evidence.min() / BIN), BIN * math.ceil(evidence.max() / BIN)
    counts = torch.histc(evidence, round((high - low) / BIN), low, high)
    return {"images": len(images), "low": low, "high": high, "counts": counts.int().tolist()}


def replay(name: str) -> dict[str, Any]:
    """The snapshots of a training: labels of the images, their means before it and after every epoch, and test losses.

    "same_run" says whether it is the training that the weights come from, by its losses. It need not be: a recipe that
    is trained again on another machine rounds differently.
    """
    stored = load_file(WEIGHTS / name / "snapshots.safetensors")
    means, terms = stored["means"], stored["terms"]
    log = json.loads((WEIGHTS / name / "training.json").read_text())
    shipped = next(run["epochs"] for run in log["runs"] if run["seed"] == log["shipped_seed"])
    logged = torch.tensor([[row["held_out_reconstruction"], row["held_out_kl"]] for row in shipped])
    return {
        "labels": digits(load("mnist", "test").labels[: means.shape[1]]),
        "terms": [[round(term, 4) for term in row] for row in terms.tolist()],
        "same_run": torch.equal(terms, logged),
        "numbers": base64_halves(means),
    }


def export(name: str, folder: Path) -> None:
    """Write the script files of one model into folder, one for each of its parts in `EXPORTED`.

    Raises:
        ValueError: pages do not run weights of that name.
        DataError: MNIST's test set cannot be had.
    """
    if name not in EXPORTED:
        raise ValueError(f"Pages do not run {name!r}; they run {', '.join(EXPORTED)}.")
    model = CVAE.from_pretrained(name)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "encoder": lambda: network(cast(MLP, model.encoder.body)),
        "decoder": lambda: network(cast(MLP, model.decoder.body)),
        "codes": lambda: codes(model, *(part[:NUM_CODES] for part in load("mnist", "test"))),
        "histogram": lambda: histogram(model, load("mnist", "test").images),
        "replay": lambda: replay(name),
    }
    sha256 = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    for part in EXPORTED[name]:
        content = {"weights": name, "sha256": sha256, **parts[part]()}
        script = f'explorer.deliver("{name}.{part}", {json.dumps(content)});\n'
        (folder / f"{name}.{part}.js").write_text(script, encoding="utf-8")
