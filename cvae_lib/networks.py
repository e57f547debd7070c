"""The networks inside encoder and decoder, by name. Both kinds know the label through a bias."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


class MLP(nn.Module):
    """A fully connected network with one activation between its layers and one bias per label in the first.

        h_1 = W x + b_y,    h_(l+1) = W_l relu(h_l) + b_l

    The bias per label is what appending a one-hot label to the input amounts to: W [x; onehot(y)] + b =
    W_x x + (W_y[y] + b). Written like this it broadcasts: for ten labels at once the wide product with x
    is computed once.

    Args:
        sizes: widths of the layers, input and output included.
        num_labels: number of labels; 0 for a network without labels.
        activation: a key of `ACTIVATIONS`.

    Equations: (7.4)
    """

    def __init__(self, sizes: Sequence[int], num_labels: int = 0, activation: str = "relu") -> None:
        super().__init__()
        self.first = nn.Linear(sizes[0], sizes[1], bias=num_labels == 0)
        self.label_bias = nn.Embedding(num_labels, sizes[1]) if num_labels else None
        if self.label_bias is not None:
            bound = sizes[0] ** -0.5  # what nn.Linear uses for a bias
            nn.init.uniform_(self.label_bias.weight, -bound, bound)
        layers = (nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes[1:]))
        self.rest = nn.Sequential(*(module for layer in layers for module in (ACTIVATIONS[activation](), layer)))

    def forward(self, inputs: Tensor, y: Tensor | None = None) -> Tensor:
        """Map inputs (..., sizes[0]) and labels (...) to outputs (..., sizes[-1])."""
        h = self.first(inputs)
        if self.label_bias is not None:
            h = h + self.label_bias(y)
        return self.rest(h)  # type: ignore[no-any-return]


class ConvEncoder(nn.Module):
    """Convolutions of stride 2 that do not see the label, then an `MLP` of one hidden layer that does.

    Without the label the convolutions run once per image, however many labels are asked for.

    Args:
        sizes: pixels of a square image, channels of each convolution, width of the hidden layer, outputs. Every
            convolution halves the side of the image.
        num_labels: number of labels; 0 for a network without labels.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, sizes: Sequence[int], num_labels: int = 0, activation: str = "relu") -> None:
        super().__init__()
        channels = sizes[1:-2]
        self.side, small = _sides(sizes[0], channels)
        layers = (nn.Conv2d(*pair, kernel_size=4, stride=2, padding=1) for pair in pairwise((1, *channels)))
        self.convolutions = nn.Sequential(*(part for layer in layers for part in (layer, ACTIVATIONS[activation]())))
        self.head = MLP((channels[-1] * small**2, *sizes[-2:]), num_labels, activation)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images (..., pixels) and labels (...) to outputs (..., sizes[-1])."""
        features = self.convolutions(x.reshape(-1, 1, self.side, self.side)).flatten(1)
        return self.head(features.unflatten(0, x.shape[:-1]), y)  # type: ignore[no-any-return]


class ConvDecoder(nn.Module):
    """`ConvEncoder` backwards: an `MLP` that sees the label, then transposed convolutions of stride 2.

    Args:
        sizes: inputs, width of the hidden layer, channels before each convolution, pixels of a square image.
        num_labels: number of labels; 0 for a network without labels.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, sizes: Sequence[int], num_labels: int = 0, activation: str = "relu") -> None:
        super().__init__()
        channels = sizes[2:-1]
        _, self.small = _sides(sizes[-1], channels)
        self.head = MLP((*sizes[:2], channels[0] * self.small**2), num_labels, activation)
        layers = (nn.ConvTranspose2d(*pair, kernel_size=4, stride=2, padding=1) for pair in pairwise((*channels, 1)))
        self.convolutions = nn.Sequential(*(part for layer in layers for part in (ACTIVATIONS[activation](), layer)))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map codes (..., sizes[0]) and labels (...) to logits (..., pixels)."""
        features = self.head(z, y)
        images = self.convolutions(features.reshape(-1, features.shape[-1] // self.small**2, self.small, self.small))
        return images.reshape(*features.shape[:-1], -1)  # type: ignore[no-any-return]


def _sides(pixels: int, channels: Sequence[int]) -> tuple[int, int]:
    """Side of the image, and side after one halving for every convolution."""
    side = math.isqrt(pixels)
    if side**2 != pixels or not channels or side % 2 ** len(channels):
        raise ValueError(
            "Convolutions need a square image whose side every one of them can halve, and a hidden layer; "
            f"got {pixels} pixels and {len(channels)} convolutions."
        )
    return side, side >> len(channels)


Body = Callable[[Sequence[int], int, str], nn.Module]
BODIES: dict[str, tuple[Body, Body]] = {"mlp": (MLP, MLP), "convolutional": (ConvEncoder, ConvDecoder)}
"""Encoder and decoder bodies by name. Each is built from (sizes, num_labels, activation) and called with
(inputs, labels)."""
