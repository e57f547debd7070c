"""Data sets hold what they say, and a file or folder that is not right is named, never swapped."""

import shutil
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import mnist as mnist_of_torchvision
from toys import noise

from cvae_lib import DataError, ImageSet, data, load

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SIZES = {"digits": {"train": 1_500, "test": 297, "fit": 1_250, "validation": 250}}
SIZES["mnist"] = {"train": 60_000, "test": 10_000, "fit": 50_000, "validation": 10_000}


@pytest.fixture(params=[pytest.param("mnist", marks=pytest.mark.slow), "digits"])
def dataset(request) -> str:
    """Each data set in turn."""
    if request.param == "mnist":
        request.getfixturevalue("mnist")
    return request.param


@pytest.fixture
def no_network(monkeypatch) -> list:
    """Every attempt to download, none of which succeeds."""
    attempts = []

    class Unreachable:
        mirrors = ("https://mirror.example/",)

        def __init__(self, root, download):
            attempts.append(root)
            raise OSError("no route to host")

    for name in ("MNIST", "KMNIST"):
        monkeypatch.setattr(mnist_of_torchvision, name, type(name, (Unreachable,), {}))
    return attempts


# What the data sets hold -----------------------------------------------------------------------------------------


def test_every_split_has_its_size_its_types_and_its_range(dataset):
    for split, size in SIZES[dataset].items():
        images, labels = load(dataset, split)
        assert images.shape == (size, 784)
        assert labels.shape == (size,)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert (images.min(), images.max()) == (0, 1)
        assert labels.unique().tolist() == list(range(10))


def test_fit_and_validation_are_train_in_order(dataset):
    first, last, train = load(dataset, "fit"), load(dataset, "validation"), load(dataset, "train")
    assert torch.equal(torch.cat([first.images, last.images]), train.images)
    assert torch.equal(torch.cat([first.labels, last.labels]), train.labels)


@pytest.mark.slow
def test_mnist_has_the_published_class_counts_and_moments(mnist):
    train, test = load("mnist", "train"), load("mnist", "test")
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert train.images.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.slow
def test_kuzushiji_is_ten_kinds_of_characters_that_are_no_digits(mnist):
    """1,000 test images of each, as published; and far from every digit's class mean."""
    images, labels = load("kmnist", "test")
    assert images.shape == (10_000, 784)
    assert (images.min(), images.max()) == (0, 1)
    assert labels.bincount().tolist() == [1_000] * 10
    digits = load("mnist", "train")
    means = torch.stack([digits.images[digits.labels == label].mean(0) for label in range(10)])
    assert torch.cdist(images, means).min(1).values.mean() > torch.cdist(digits.images, means).min(1).values.mean() + 1


def test_digits_are_the_digits_of_scikit_learn_in_a_frame():
    train, test = load("digits", "train"), load("digits", "test")
    images = torch.cat([train.images, test.images]).view(-1, 28, 28)
    original = load_digits()
    assert torch.cat([train.labels, test.labels]).tolist() == original.target.tolist()
    assert images.sum().item() == pytest.approx(images[:, 4:24, 4:24].sum().item())
    # Enlarged 2.5 times, pixels 2, 7, 12 and 17 of 20 lie midway between pixels 0 and 1, 2 and 3, ... of 8.
    averages = torch.as_tensor(original.images / 16, dtype=torch.float32).view(-1, 4, 2, 4, 2).mean((2, 4))
    torch.testing.assert_close(images[:, 6:24:5, 6:24:5], averages)


def test_images_and_labels_belong_together(dataset):
    """The nearest class mean knows four digits of five; labels in another order would leave one of ten."""
    train, test = load(dataset, "train"), load(dataset, "test")
    means = torch.stack([train.images[train.labels == label].mean(0) for label in range(10)])
    assert (torch.cdist(test.images, means).argmin(1) == test.labels).float().mean() > 0.8


def test_an_image_set_unpacks_and_says_what_it_is():
    images = ImageSet(torch.zeros(1_500, 4), torch.zeros(1_500).long(), "noise")
    x, y = images
    assert (x.shape, y.shape, len(images), str(images)) == ((1_500, 4), (1_500,), 1_500, "noise, 1,500 images")


@pytest.mark.parametrize("shape", [(16,), (4, 4), (1, 4, 4), (2, 2, 4)])
def test_images_of_any_shape_are_flattened_at_the_door(shape):
    """Pixel by pixel in reading order, channel after channel."""
    x = torch.rand(5, *shape)
    images = ImageSet(x, torch.arange(5), "shapes").images
    assert images.shape == (5, 16)
    for index in range(5):
        assert images[index].tolist() == x[index].flatten().tolist()


@pytest.mark.parametrize(("images", "labels"), [((16,), (16,)), ((3, 16), (4,)), ((3, 16), (3, 1)), ((0, 16), (0,))])
def test_an_image_set_needs_flat_images_each_with_a_label(images, labels):
    with pytest.raises(
        ValueError, match=r"needs images of shape \(N, pixels\) and labels of shape \(N,\), N at least 1"
    ):
        ImageSet(torch.zeros(images), torch.zeros(labels), "odd")


def test_binarised_images_are_drawn_once_with_the_grey_value_as_probability():
    grey = noise(4_000)
    binary = grey.binarised()
    assert str(binary) == "noise binarised at random, 4,000 images"
    assert set(binary.images.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(binary.images, grey.binarised().images)
    assert not torch.equal(binary.images, grey.binarised(1).images)
    dark, bright = (binary.images[chosen].mean().item() for chosen in (grey.images < 0.1, grey.images > 0.9))
    assert dark == pytest.approx(0.05, abs=0.01)
    assert bright == pytest.approx(0.95, abs=0.01)


# Which data set, which split, which folder -----------------------------------------------------------------------


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="Unknown data set 'cifar'; known: mnist, digits, kmnist"):
        load("cifar", "train")
    with pytest.raises(ValueError, match="only the split 'test' is used; got 'train'"):
        load("kmnist", "train")
    with pytest.raises(ValueError, match="Unknown split 'valid'; known: train, test, fit, validation"):
        load("digits", "valid")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "must be an absolute path"),
        ("data", "must be an absolute path .* got 'data'"),
        ("{tmp}/nowhere", "names {tmp}/nowhere, which is not a folder"),
        ("{tmp}/file", "names {tmp}/file, which is not a folder"),
        ("{tmp}", "{tmp}/MNIST/raw lacks t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"),
    ],
)
def test_an_unusable_folder_is_an_error_and_never_a_download(tmp_path, monkeypatch, no_network, folder, message):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CVAE_DATA", folder.format(tmp=tmp_path))
    with pytest.raises(DataError, match="CVAE_DATA .*" + message.format(tmp=tmp_path)):
        load("mnist", "test")
    assert no_network == []


def test_a_failed_download_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch, no_network):
    monkeypatch.delenv("CVAE_DATA", raising=False)
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    with pytest.raises(DataError) as error:
        load("mnist", "train")
    assert no_network == [str(tmp_path / "cache")]
    for part in (
        str(tmp_path),
        "https://mirror.example/",
        "X/MNIST/raw",
        "CVAE_DATA=X",
        "CVAE_DATASET=digits",
        *sum(FILES.values(), ()),
    ):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"KMNIST is not in .* into a folder X/KMNIST/raw and set CVAE_DATA=X") as error:
        load("kmnist", "test")
    assert "digits" not in str(error.value)  # they are no substitute for images that are no digits


# Files that are not right ----------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path, monkeypatch, no_network) -> Path:
    """An empty MNIST/raw in the folder that CVAE_DATA names."""
    monkeypatch.setenv("CVAE_DATA", str(tmp_path))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_truncated_file_is_named_with_the_size_it_should_have(raw, split):
    size = 16 + 784 * SIZES["mnist"][split]  # the header of an IDX file, and one byte for each pixel
    for name in FILES[split]:
        (raw / name).write_bytes(bytes(5_000))
    with pytest.raises(DataError, match=rf"{raw / FILES[split][0]} has 5,000 bytes, expected {size:,}\."):
        load("mnist", split)


def test_a_file_of_the_right_size_and_the_wrong_content_is_named(raw):
    for name, size in zip(FILES["test"], (7_840_016, 10_008), strict=True):
        (raw / name).write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"{raw / FILES['test'][0]} has SHA-256 \w+, expected 0fa7898d509279e4"):
        load("mnist", "test")


def test_kuzushiji_has_a_folder_of_its_own(raw, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/KMNIST/raw lacks t10k-images-idx3-ubyte and t10k-labels-idx1"):
        load("kmnist", "test")


def test_one_flipped_label_is_noticed(mnist, raw):
    for name in FILES["test"]:
        shutil.copy(mnist / name, raw)
    content = bytearray((raw / FILES["test"][1]).read_bytes())
    content[-1] ^= 1
    (raw / FILES["test"][1]).write_bytes(content)
    with pytest.raises(DataError, match=rf"{raw / FILES['test'][1]} has SHA-256 \w+, expected ff7bcfd416de3373"):
        load("mnist", "test")


@pytest.mark.slow
@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "validation")])
def test_a_folder_with_one_split_is_enough_for_it(mnist, raw, split, other):
    for name in FILES[split]:
        (raw / name).symlink_to(mnist / name)
    assert len(load("mnist", split)) == SIZES["mnist"][split]
    with pytest.raises(DataError, match="lacks "):
        load("mnist", other)


def test_every_second_image_of_mnist_is_no_random_half_but_a_sample_is_fair(mnist):
    """By the ink of an image: places in the file differ by many standard errors, a sample does not."""
    train = load("mnist", "train")
    ink = train.images.sum(1)
    error = ink.std() / (len(ink) / 6) ** 0.5
    even, odd = ink.unflatten(0, (-1, 2)).mean(0)
    assert abs(even - odd) > 8 * error
    for seed in range(5):
        assert abs(train.sample(10_000, seed).images.sum(1).mean() - ink.mean()) < 3.5 * error


def test_a_sample_is_drawn_without_replacement_and_by_the_seed():
    images = torch.arange(20.0)[:, None] / 20
    data = ImageSet(images, torch.arange(20), "numbered")
    some = data.sample(8, seed=1)
    assert len(some.labels.unique()) == 8
    assert torch.equal(20 * some.images[:, 0], some.labels.float())
    assert torch.equal(some.labels, data.sample(8, seed=1).labels)
    assert not torch.equal(some.labels, data.sample(8, seed=2).labels)
    with pytest.raises(ValueError, match="draws from 1 to 20 images of numbered; got n=21"):
        data.sample(21)
