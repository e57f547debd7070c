"""Figures from tensors; every function returns a matplotlib figure and shows nothing by itself."""

import math
from collections.abc import Sequence

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor


def tile(images: Tensor, columns: int, gap: int = 1) -> Tensor:
    """Put N square images (N, side * side) into one picture, row by row, with white gaps.

    One picture is drawn an order of magnitude faster than a grid of axes.

    Raises:
        ValueError: the images are not square, or columns is below 1.
    """
    side = math.isqrt(images.shape[-1])
    if images.dim() != 2 or side * side != images.shape[-1] or columns < 1:
        raise ValueError(f"tile() takes square images and at least 1 column; got {tuple(images.shape)} and {columns}.")
    rows = -(-len(images) // columns)
    cell = side + gap
    picture = torch.ones(rows * columns, cell, cell)
    picture[: len(images), :side, :side] = images.detach().cpu().unflatten(-1, (side, side))
    picture = picture.view(rows, columns, cell, cell).transpose(1, 2).reshape(rows * cell, columns * cell)
    return picture[: rows * cell - gap, : columns * cell - gap]


def show_images(
    images: Tensor,
    columns: int,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell_inches: float = 0.55,
) -> Figure:
    """A grid of grey images (N, side * side), 0 black and 1 white, with optional labels for rows and columns."""
    picture = tile(images, columns)
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(figsize=(cell_inches * columns + 0.4, cell_inches * rows + 0.4), layout="constrained")
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    cell = (picture.shape[1] + 1) / columns
    axes.set_xticks([(i + 0.5) * cell - 1 for i in range(len(column_labels or []))], column_labels or [])
    axes.set_yticks([(i + 0.5) * cell - 1 for i in range(len(row_labels or []))], row_labels or [])
    return figure
