"""The opponent of the generative classifier: a network that is trained to classify."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from cvae_lib.course.recipes import RECIPES
from cvae_lib.course.transforms import jitter
from cvae_lib.data import ImageSet
from cvae_lib.networks import MLP
from cvae_lib.train import seeded

_NETWORK = RECIPES["cvae-50d"].model


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
