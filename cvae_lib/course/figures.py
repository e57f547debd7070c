"""Figures of the chapters: a training, and a latent plane with what is decoded where and where the codes lie."""

import math
from collections.abc import Sequence

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from cvae_lib.callbacks import History
from cvae_lib.plot import tile


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


def plane(values: Tensor) -> Tensor:
    """Codes (n * n, 2) on a grid of the latent plane, in reading order: z_1 grows to the right, z_2 upwards.

    Args:
        values: the n coordinates that both axes take, in rising order.
    """
    z2, z1 = torch.meshgrid(values.flip(0), values, indexing="ij")
    return torch.stack([z1, z2], dim=-1).flatten(0, 1)


def show_plane(images: Tensor, values: Tensor, size: float = 6.0) -> Figure:
    """Images (n * n, side * side) decoded at `plane(values)`, without gaps, with the coordinates on the axes."""
    figure, axes = plt.subplots(figsize=(size, size), layout="constrained")
    picture = tile(images, len(values), gap=0)
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
    cell = len(picture) / len(values)
    shown = range(0, len(values), max(1, len(values) // 7))
    names = [f"{values[i]:.1f}" for i in shown]
    axes.set_xticks([(i + 0.5) * cell - 0.5 for i in shown], names)
    axes.set_yticks([(len(values) - i - 0.5) * cell - 0.5 for i in shown], names)
    axes.set(xlabel="$z_1$", ylabel="$z_2$")
    return figure


def prior_circles(axes: Axes, radii: Sequence[float] = (1, 2, 3)) -> None:
    """Circles around the origin of the latent plane, each labelled with the share of N(0, I) that it holds.

        P(|z| <= r) = 1 - exp(-r^2 / 2)   in two dimensions

    Equations: (4.2), (8.3)
    """
    for radius in radii:
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linestyle="--", linewidth=0.8))
        label = f"{-100 * math.expm1(-(radius**2) / 2):.1f} %"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
        axes.text(0, radius, label, ha="center", va="center", fontsize=9, bbox=box, clip_on=True)


def show_codes(
    codes: Tensor, labels: Tensor, size: float = 7.0, *, sigmas: Tensor | None = None, axes: Axes | None = None
) -> Figure:
    """Codes (N, 2) in the latent plane, each written as its digit; the colour only repeats what the digit says.

    With sigmas (N, 2), the standard deviations of the posteriors, each code gets its ellipse of two standard
    deviations, which holds 1 - exp(-2) = 86.5 % of its posterior. With axes it draws there, for figures of
    several panels.

    Equations: (4.3)
    """
    if axes is None:
        axes = plt.figure(figsize=(6, 6), layout="constrained").subplots()
    colours = plt.get_cmap("tab10")
    for label in labels.unique().tolist():
        chosen = labels == label
        z = codes[chosen].detach().cpu()
        colour = colours(label % 10)
        axes.scatter(z[:, 0], z[:, 1], marker=f"${label}$", s=size**2 / 2, color=colour, linewidths=0.2)
        if sigmas is not None:
            diameters = 4 * sigmas[chosen].detach().cpu().numpy()
            ellipses = EllipseCollection(
                diameters[:, 0],
                diameters[:, 1],
                [0.0] * len(z),
                units="xy",
                offsets=z.numpy(),
                offset_transform=axes.transData,
                facecolors="none",
                edgecolors=[colour],
                linewidths=0.8,
            )
            axes.add_collection(ellipses)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return axes.figure  # type: ignore[return-value]
