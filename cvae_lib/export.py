"""Weights and codes for the live elements of the book's pages, as script files.

A page that is opened from a file may not fetch anything, but it may load scripts. So each file is a call of the
function `explorer.deliver` with a name and an object; long arrays of numbers stand in it as base64 of little-endian
16-bit floats, which is how the weights are stored anyway.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvae_lib.data import load
from cvae_lib.model import CVAE, WEIGHTS
from cvae_lib.networks import MLP

EXPORTED = {"vae-2d": ("decoder",), "cvae-2d": ("decoder",)}
"""The weights that pages run, and which of their networks."""
NUM_CODES = 1000


def base64_halves(*tensors: Tensor) -> str:
    """All numbers of the tensors, one after the other, as 16-bit floats."""
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    return base64.b64encode(flat.numpy().astype("<f2").tobytes()).decode()


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
        "labels": "".join(str(label) for label in labels.tolist()),
        "numbers": base64_halves(torch.cat([posterior.loc, posterior.scale], dim=-1)),
    }


def export(name: str, folder: Path) -> None:
    """Write the script files of one model into folder: its networks, and the codes of the first test images of MNIST.

    Raises:
        ValueError: pages do not run weights of that name.
        DataError: MNIST's test set cannot be had.
    """
    if name not in EXPORTED:
        raise ValueError(f"Pages do not run {name!r}; they run {', '.join(EXPORTED)}.")
    model = CVAE.from_pretrained(name)
    first = [part[:NUM_CODES] for part in load("mnist", "test")]
    parts = {part: network(getattr(model, part).body) for part in EXPORTED[name]}
    parts["codes"] = codes(model, *first)
    sha256 = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    for part, content in parts.items():
        content = {"weights": name, "sha256": sha256, **content}
        script = f'explorer.deliver("{name}.{part}", {json.dumps(content)});\n'
        (folder / f"{name}.{part}.js").write_text(script, encoding="utf-8")
