"""The opponent of the generative classifier: a network that is trained to classify."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from cvae_lib.checks import look_up
from cvae_lib.course.recipes import RECIPES, seeded
from cvae_lib.course.transforms import jitter
from cvae_lib.data import ImageSet
from cvae_lib.networks import MLP, ConvEncoder
from cvae_lib.train import PRECISIONS

_NETWORK = RECIPES["cvae-50d"].model


def fully_connected(pixels: int, labels: int, dropout: tuple[float, float] = (0.0, 0.0)) -> nn.Module:
    """The layers of `cvae-50d`'s encoder, then one logit for each label.

    Args:
        pixels: inputs.
        labels: outputs.
        dropout: the share of inputs, and of hidden units, that are set to 0 in training.
    """
    network = MLP((pixels, *_NETWORK["hidden_sizes"], labels), activation=_NETWORK["activation"])
    return _with_dropout(network, network, *dropout)


def convolutional(pixels: int, labels: int, dropout: tuple[float, float] = (0.0, 0.0)) -> nn.Module:
    """The convolutions of the ladder, a hidden layer of 256, then one logit for each label; see `fully_connected`."""
    network = ConvEncoder((pixels, 32, 64, 256, labels), activation=_NETWORK["activation"])
    return _with_dropout(network, network.head, *dropout)


def _with_dropout(network: nn.Module, layers: MLP, inputs: float, hidden: float) -> nn.Module:
    """The network with dropout before it and after every activation of its connected layers."""
    if not inputs and not hidden:
        return network
    parts = [[part] if isinstance(part, nn.Linear) else [part, nn.Dropout(hidden)] for part in layers.rest]
    layers.rest = nn.Sequential(*chain.from_iterable(parts))
    return nn.Sequential(nn.Dropout(inputs), network)


def train_discriminative(
    data: ImageSet,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.0,
    transform: Callable[[Tensor], Tensor] = jitter,
    network: Callable[[int, int], nn.Module] = fully_connected,
    precision: str = "float32",
    seed: int = 0,
) -> nn.Module:
    """A network that models p(y | x) directly.

        minimise the mean over the batch of  -log softmax(network(x))_y

    Adam and one cycle of its rate, as `fit` does for the generative model.

    Args:
        data: images with labels 0, 1, ...
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: the highest of the cycle.
        weight_decay: AdamW's, the share of the rate by which a weight shrinks in every step.
        transform: done to every batch of images.
        network: makes the network from the numbers of pixels and labels.
        precision: of the products inside the network, as in `fit`.
        seed: of initial weights, order, transform and dropout.

    Returns:
        The network, from images (..., pixels) to logits (..., labels).
    """
    dtype = look_up("precision", precision, PRECISIONS)
    with seeded(seed):
        made = network(data.images.shape[1], int(data.labels.max()) + 1)
        optimizer = torch.optim.AdamW(made.parameters(), lr=learning_rate, weight_decay=weight_decay)
        scheduler = OneCycleLR(optimizer, learning_rate, epochs * -(-len(data) // batch_size))
        for _ in range(epochs):
            for batch in torch.randperm(len(data)).split(batch_size):
                with torch.autocast(data.images.device.type, dtype, enabled=dtype != torch.float32):
                    logits = made(transform(data.images[batch]))
                loss = cross_entropy(logits.float(), data.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    return made.eval()
