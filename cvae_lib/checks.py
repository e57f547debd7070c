"""What is asked of arguments everywhere, with one sentence for each answer that will not do."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with the known ones, unless the name is one of them."""
    if name not in (names := list(known)):
        raise ValueError(f"Unknown {what} {name!r}; known: {', '.join(names)}.")


def look_up(what: str, name: str, table: Mapping[str, Any]) -> Any:
    """What stands in a table under a name, see `check_known`."""
    check_known(what, name, table)
    return table[name]


def check_at_least(smallest: float, **values: float) -> None:
    """Raise ValueError, with the name, unless all values are numbers of at least this size."""
    for name, value in values.items():
        if not value >= smallest:  # also true for NaN
            raise ValueError(f"{name} must be at least {smallest:g}; got {value}.")


def check_positive(**values: float) -> None:
    """Raise ValueError, with the name, unless all values are above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0 and finite; got {value}.")


def check_floats(what: str, values: Tensor, width: int) -> None:
    """Raise ValueError unless values are floating point numbers of shape (..., width), at least one."""
    if values.dim() == 0 or values.shape[-1] != width:
        raise ValueError(f"{what} must have shape (..., {width}); got {tuple(values.shape)}.")
    if not values.is_floating_point():
        raise ValueError(f"{what} must be floating point; got {values.dtype}.")
    if values.numel() == 0:
        raise ValueError(f"{what} must hold at least one; got the empty shape {tuple(values.shape)}.")


def check_range(x: Tensor, low: float, high: float, likelihood: str) -> None:
    """Raise ValueError unless images are finite and within the range that the likelihood is for."""
    found = [value.item() for value in x.aminmax()]
    if not (found[0] > -torch.inf and found[1] < torch.inf):  # also true for NaN
        raise ValueError("Images must be finite; some values are NaN or infinite.")
    if found[0] < low or found[1] > high:
        raise ValueError(
            f"Images must have values in [{low:g}, {high:g}] for the {likelihood} likelihood; "
            f"these lie in [{found[0]:g}, {found[1]:g}]."
        )


def check_labels(y: Tensor | int | None, num_labels: int, batch: torch.Size, device: torch.device) -> Tensor | None:
    """Labels as int64 on the device; raise ValueError unless they fit the model and broadcast with the batch."""
    if num_labels == 0:
        if y is not None:
            raise ValueError("This model has no labels (num_labels=0); leave y out.")
        return None
    if y is None:
        raise ValueError(f"This model is conditional: give y, labels from 0 to {num_labels - 1}.")
    y = torch.as_tensor(y, device=device)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"Labels must be integers from 0 to {num_labels - 1}; got {y.dtype}.")
    try:
        torch.broadcast_shapes(y.shape, batch)
    except RuntimeError:
        raise ValueError(f"Labels of shape {tuple(y.shape)} do not fit a batch of shape {tuple(batch)}.") from None
    if y.numel() == 0 or y.min() < 0 or y.max() >= num_labels:
        raise ValueError(f"Labels must be integers from 0 to {num_labels - 1}; got {y.unique().tolist()}.")
    return y.long()
