"""Images as tensors: MNIST and Kuzushiji-MNIST, checked file by file, and a small set that needs no network."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from cvae_lib.checks import check_known

# SHA-256 and size in bytes of the official files, uncompressed.
MNIST_FILES = {
    "train-images-idx3-ubyte": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
    "train-labels-idx1-ubyte": ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
    "t10k-images-idx3-ubyte": ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
    "t10k-labels-idx1-ubyte": ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
}
KMNIST_FILES = {
    "t10k-images-idx3-ubyte": ("76fbd229ce87db80dd281af5e6670de4ad0e42fb30a7bd643972994c47c1f42e", 7_840_016),
    "t10k-labels-idx1-ubyte": ("a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6", 10_008),
}
DATASETS = ("mnist", "digits", "kmnist")
SPLITS = ("train", "test", "fit", "validation")
CACHE = Path.home() / ".cache" / "cvae_lib"


class DataError(RuntimeError):
    """A data set cannot be had; the message says what was tried and what to do."""


def flat(images: Any) -> Any:
    """Images (N, height, width) or (N, channels, height, width) as (N, pixels); other things as they are."""
    return images.reshape(len(images), -1) if len(getattr(images, "shape", ())) > 2 and len(images) else images


def as_array(images: Any) -> Any:
    """Images as they are, but flat, and a tensor as an array; it may be on any device and need a gradient."""
    return flat(images.detach().cpu().numpy() if isinstance(images, Tensor) else images)


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels; unpacks as `images, labels = image_set`.

    Attributes:
        images: shape (N, pixels), float32; given with height and width they are flattened.
        labels: shape (N,), int64.
        name: what a reader should know it by, such as "MNIST train".
    """

    images: Tensor
    labels: Tensor
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", flat(self.images))
        if self.images.dim() != 2 or self.labels.shape != self.images.shape[:1] or len(self.images) == 0:
            raise ValueError(
                "An ImageSet needs images of shape (N, pixels) and labels of shape (N,), N at least 1; "
                f"got {tuple(self.images.shape)} and {tuple(self.labels.shape)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels))

    def __str__(self) -> str:
        return f"{self.name}, {len(self):,} images"

    def sample(self, n: int, seed: int = 0) -> "ImageSet":
        """n images drawn without replacement, in random order; the same seed draws the same images.

        A subset for a conclusion must be drawn like this. MNIST's files are not in random order: the training file
        alternates between groups of writers, and the first half of the test file has less ink and is read less well.

        Raises:
            ValueError: n is not from 1 to the number of images.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"sample() draws from 1 to {len(self):,} images of {self.name}; got n={n}.")
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]
        return ImageSet(self.images[chosen], self.labels[chosen], f"{n:,} random images of {self.name}")

    def binarised(self, seed: int = 0) -> "ImageSet":
        """Every pixel drawn once, 1 with its grey value as probability, else 0.

        Equations: (5.4), (9.13)
        """
        generator = torch.Generator().manual_seed(seed)
        images = torch.bernoulli(self.images, generator=generator)
        return ImageSet(images, self.labels, f"{self.name} binarised at random")


def load(dataset: str, split: str) -> ImageSet:
    """One split of a data set, pixels scaled to [0, 1].

    - mnist: 28x28 digits (LeCun, Cortes & Burges, 1998): train 60,000, test 10,000, and for whatever is chosen
      (hyperparameters, stopping, thresholds) fit and validation, the first 50,000 and the last 10,000 of
      train. torchvision downloads it on first use; files that are there are checked against our checksums.
    - digits: scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 20x20 in a 28x28 frame as MNIST's are:
      train 1,500, test 297, fit 1,250, validation 250. Needs no network.
    - kmnist: the 10,000 test images of Kuzushiji-MNIST (Clanuwat et al., "Deep learning for classical Japanese
      literature", 2018), 28x28 pixels like MNIST's but cursive Japanese; only the split "test". For images
      that no digit model should take for digits. Found and downloaded as MNIST is.

    The environment variable CVAE_DATA, an absolute path, names the folder that holds `MNIST/raw` and `KMNIST/raw`;
    without it that is .cache/cvae_lib at home. When set it must hold the files: nothing is downloaded into it.

    Args:
        dataset: "mnist", "digits" or "kmnist".
        split: "train", "test", "fit" or "validation".

    Raises:
        ValueError: unknown data set or split.
        DataError: the files are missing, damaged or cannot be downloaded.
    """
    check_known("data set", dataset, DATASETS)
    check_known("split", split, SPLITS)
    if dataset == "kmnist":
        if split != "test":
            raise ValueError(f"Of Kuzushiji-MNIST only the split 'test' is used; got {split!r}.")
        return ImageSet(*_idx_files("KMNIST", KMNIST_FILES, "t10k"), "Kuzushiji-MNIST test")
    file = "test" if split == "test" else "train"
    if dataset == "mnist":
        images, labels = _idx_files("MNIST", MNIST_FILES, "t10k" if file == "test" else "train")
    else:
        images, labels = _digits(file)
    held_back = len(images) // 6
    part = {"fit": slice(-held_back), "validation": slice(-held_back, None)}.get(split, slice(None))
    return ImageSet(images[part], labels[part], f"{'MNIST' if dataset == 'mnist' else 'embedded digits'} {split}")


def data_folder() -> Path:
    """The folder that holds `MNIST/raw`: CVAE_DATA when set, else .cache/cvae_lib at home.

    Raises:
        DataError: CVAE_DATA is set but is not the absolute path of a folder.
    """
    named = os.environ.get("CVAE_DATA")
    if named is None:
        return CACHE
    if not Path(named).is_absolute():
        raise DataError(f"CVAE_DATA must be an absolute path (notebooks run in their own folder); got {named!r}.")
    if not Path(named).is_dir():
        raise DataError(f"CVAE_DATA names {named}, which is not a folder.")
    return Path(named)


def _idx_files(source: str, files: dict[str, tuple[str, int]], prefix: str) -> tuple[Tensor, Tensor]:
    """Images and labels of the two files whose names begin with prefix, checked; downloaded first where that is due."""
    from torchvision.datasets.mnist import read_image_file, read_label_file  # slow to import, and needed only here

    folder = data_folder() / source / "raw"
    names = [name for name in files if name.startswith(prefix)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and "CVAE_DATA" in os.environ:
        raise DataError(f"CVAE_DATA is set, but {folder} lacks {' and '.join(missing)} (uncompressed IDX files).")
    if missing:
        _download(source, files)
    for name in names:
        _check_file(folder / name, *files[name])
    images = read_image_file(str(folder / names[0]))
    labels = read_label_file(str(folder / names[1]))
    return images.flatten(1).float() / 255, labels


def _download(name: str, files: dict[str, tuple[str, int]]) -> None:
    from torchvision.datasets import mnist

    source = getattr(mnist, name)
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        source(str(CACHE), download=True)
    except (OSError, RuntimeError) as error:
        instead = ", or set CVAE_DATASET=digits to use the small embedded data set" if name == "MNIST" else ""
        raise DataError(
            f"{name} is not in {CACHE}, and torchvision could not download it from {' or '.join(source.mirrors)}. "
            f"Either put the uncompressed files {', '.join(files)} into a folder X/{name}/raw and set CVAE_DATA=X, an "
            f"absolute path{instead}."
        ) from error


def _check_file(file: Path, sha256: str, size: int) -> None:
    if (found := file.stat().st_size) != size:
        raise DataError(f"{file} has {found:,} bytes, expected {size:,}. Delete it and get it again.")
    if (digest := hashlib.sha256(file.read_bytes()).hexdigest()) != sha256:
        raise DataError(f"{file} has SHA-256 {digest}, expected {sha256}. Delete it and get it again.")


def _digits(part: str) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # slow to import, and needed only here

    bunch = load_digits()
    small = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = pad(interpolate(small, size=(20, 20), mode="bilinear"), (4, 4, 4, 4)).flatten(1)
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)
    chosen = slice(1500) if part == "train" else slice(1500, None)
    return images[chosen], labels[chosen]
