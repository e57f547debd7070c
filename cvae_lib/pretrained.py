"""Models in folders: weights as safetensors, their configuration as JSON, and a card for people.

The layout is that of `huggingface_hub.PyTorchModelHubMixin`: `config.json` holds the arguments of the model, and
`model.safetensors` its weights.
"""

import json
import os
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights"


def pretrained_names() -> list[str]:
    """The names that `CVAE.from_pretrained` knows."""
    return sorted(config.parent.name for config in WEIGHTS.glob("*/config.json"))


def pretrained_folder(name: str | Path) -> Path:
    """Where the weights of that name, or in that folder, are.

    Raises:
        ValueError: there are none, or a folder of one's own has the name of weights that come with the package.
    """
    shipped, own = WEIGHTS / name, Path(name)
    is_path = isinstance(name, Path) or own.is_absolute() or name.startswith(".")
    candidates = [folder for folder in ([own] if is_path else [shipped, own]) if (folder / "config.json").is_file()]
    if not candidates:
        raise ValueError(
            f"There are no weights named {str(name)!r}, nor a folder of that name with a config.json. "
            f"Known names: {', '.join(pretrained_names())}."
        )
    if len(candidates) > 1:
        raise ValueError(
            f"{str(name)!r} names weights that come with the package and a folder here; "
            f"write './{name}' for the folder, or rename it."
        )
    return candidates[0]


class Pretrained(nn.Module):
    """A module that can be stored in a folder and comes back; its `config` holds the arguments that make it."""

    config: dict[str, Any]

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32, card: str | None = None) -> None:
        """Write `model.safetensors` (weights, as dtype), `config.json` (the arguments) and perhaps `README.md`.

        Args:
            folder: is made where it is missing.
            dtype: a floating point type; float16 halves the file and keeps three digits.
            card: the text of README.md: what the model was trained on, how well it does, its licence.

        Raises:
            ValueError: dtype is no floating point type, or cannot hold one of the weights.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"Weights are stored as floating point numbers; got {dtype}.")
        state = self.state_dict()
        weights = {name: value.to("cpu", dtype).contiguous() for name, value in state.items()}
        for name, value in weights.items():
            if value.isfinite().all() != state[name].isfinite().all():
                raise ValueError(f"{name} holds {state[name].abs().max():g}, which is too large for {dtype}.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "model.safetensors", lambda file: save_file(weights, file))
        _replace(folder / "config.json", lambda file: file.write_text(json.dumps(self.config, indent=2) + "\n"))
        if card is not None:
            _replace(folder / "README.md", lambda file: file.write_text(card))

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Self:
        """A trained model, by the name of weights that come with the package or by the folder they are in.

        Raises:
            ValueError: no such name or folder, or both; or its files are damaged or do not fit each other.
        """
        folder = pretrained_folder(name)
        try:
            model = cls(**json.loads((folder / "config.json").read_text()))
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'config.json'} does not describe a model: {error}") from error
        model.load_state_dict(_weights(folder / "model.safetensors", model.state_dict()))  # copies into float32
        return model.eval()


def _weights(file: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a file; their names and shapes must be the expected ones."""
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} is missing, truncated or not a safetensors file: {error}") from error
    wanted, found = ({key: tuple(value.shape) for key, value in some.items()} for some in (expected, weights))
    if found != wanted:
        key = next(key for key in wanted | found if wanted.get(key) != found.get(key))
        raise ValueError(f"{file} does not fit its config.json: {key} is {found.get(key)}, expected {wanted.get(key)}.")
    return weights


def _replace(file: Path, write: Any) -> None:
    """Write a file beside the old one and put it in its place, so that a write that fails leaves the old one whole."""
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
