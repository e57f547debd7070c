"""Figures from tensors; every function returns a matplotlib figure and shows nothing by itself."""

import math
from collections.abc import Sequence

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from cvae_lib.train import History


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


def show_history(history: History) -> Figure:
    """Reconstruction, KL and their sum over the epochs: training (solid) and held out (dashed)."""
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
    epochs = history.column("epoch")
    for axes, (name, title) in zip(
        panels,
        (("loss", "negative ELBO"), ("reconstruction", "reconstruction"), ("kl", "KL divergence")),
        strict=True,
    ):
        axes.plot(epochs, history.column(name), "-o", markersize=3, label="training, running")
        if history and history[0].held_out_loss is not None:
            axes.plot(epochs, history.column(f"held_out_{name}"), "--s", markersize=3, label="held out")
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("nats per image")
    panels[0].legend(frameon=False)
    return figure


def show_codes(codes: Tensor, labels: Tensor, size: float = 7.0) -> Figure:
    """Codes (N, 2) in the latent plane, each written as its digit; the colour only repeats what the digit says."""
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    colours = plt.get_cmap("tab10")
    for label in labels.unique().tolist():
        z = codes[labels == label].detach().cpu()
        axes.scatter(z[:, 0], z[:, 1], marker=f"${label}$", s=size**2 / 2, color=colours(label % 10), linewidths=0.2)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return figure
