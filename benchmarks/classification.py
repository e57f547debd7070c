"""Seconds to classify the test images one by one, as the source document does, and by `GenerativeClassifier`.

    python benchmarks/classification.py [--images N] [--rounds N]

Both use the weights "cvae-2d" and the same score: one draw of the reconstruction under each of the ten labels. The
source's loop takes one image and one label at a time. It runs on some images of the test set, drawn at random, and its
time is scaled up to all of them; the classifier does all. They take turns, so that a change in the machine's load
falls on both. The last line is the classifier of chapter 10: the weights "cvae-50d", the importance-weighted bound with
ten draws, beside one draw of the same model.
"""

import argparse
import time
from statistics import median

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import datasets
from torchvision.transforms import ToTensor
from training import ConcatNetwork

from cvae_lib import CVAE, GenerativeClassifier, load
from cvae_lib.course import dataset_name
from cvae_lib.data import data_folder


@torch.no_grad()
def source_network(cvae: CVAE) -> ConcatNetwork:
    """The same function with appended one-hot labels, as in the source document; the opposite of `to_cvae`."""
    network = ConcatNetwork(cvae.num_labels, cvae.pixels, cvae.config["hidden_sizes"], cvae.latent_dim)
    for part, ours in ((network.encoder, cvae.encoder.body), (network.decoder, cvae.decoder.body)):
        part[0].weight.copy_(torch.cat([ours.first.weight, ours.label_bias.weight.T], dim=1))
        part[0].bias.zero_()
        part[2].load_state_dict(ours.rest[1].state_dict())
    network.decoder[4].load_state_dict(cvae.decoder.body.rest[3].state_dict())
    head = cvae.encoder.body.rest[3]
    for index, part in enumerate((network.mean, network.log_variance)):
        part.weight.copy_(head.weight.chunk(2)[index])
        part.bias.copy_(head.bias.chunk(2)[index])
    return network


@torch.no_grad()
def source_loop(network: ConcatNetwork, data: Dataset) -> tuple[float, float]:
    """Classify image by image and label by label; seconds and accuracy."""
    start, right, images = time.perf_counter(), 0, 0
    for x, y in DataLoader(data, batch_size=1):
        x = x.view(-1, network.pixels)
        losses = []
        for label in range(network.num_labels):
            c = label * torch.ones(len(x)).long()
            mu, log_var = network.encode(x, c)
            z = mu + torch.randn_like(mu) * (log_var / 2).exp()
            losses.append(F.binary_cross_entropy(network.decode(z, c), x, reduction="sum").item())
        right += int(losses.index(min(losses)) == y.item())
        images += 1
    return time.perf_counter() - start, right / images


def compare(images: int, rounds: int) -> None:
    """Run both in turn, and print the table."""
    test = load(dataset_name(), "test")
    if dataset_name() == "mnist":
        one_by_one: Dataset = datasets.MNIST(str(data_folder()), train=False, transform=ToTensor())
    else:
        one_by_one = TensorDataset(*test)
    images = min(images, len(test))
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:images].tolist()
    model = CVAE.from_pretrained("cvae-2d")
    network = source_network(model)
    print(f"Data: {test}; the loop on {images:,} of them, its seconds scaled by {len(test) / images:g}")
    print(f"Reconstruction, one draw, ten labels; torch {torch.__version__}, {torch.get_num_threads()} threads\n")

    seconds: dict[str, list[float]] = {"image by image": [], "GenerativeClassifier": []}
    accuracies: dict[str, list[float]] = {name: [] for name in seconds}
    GenerativeClassifier(model).predict(test.sample(100, seed=0).images)  # warm up
    for seed in range(rounds):
        torch.manual_seed(seed)
        took, accuracy = source_loop(network, Subset(one_by_one, chosen))
        seconds["image by image"].append(took * len(test) / images)
        accuracies["image by image"].append(accuracy)
        start = time.perf_counter()
        accuracy = GenerativeClassifier(model, "reconstruction", random_state=seed).score(*test)
        seconds["GenerativeClassifier"].append(time.perf_counter() - start)
        accuracies["GenerativeClassifier"].append(accuracy)

    print(f"{'':20} {'seconds (median)':>17}   {'each round':24} accuracy in % (its images)")
    for name, values in seconds.items():
        each = " ".join(f"{value:.1f}" for value in values)
        accuracy = " ".join(f"{100 * value:.2f}" for value in accuracies[name])
        print(f"{name:20} {median(values):17.2f}   {each:24} {accuracy}")
    slow, fast = (median(values) for values in seconds.values())
    print(f"\nthe classifier takes {fast / slow:.3f} of the loop's time")

    model = CVAE.from_pretrained("cvae-50d")
    took = {1: [], 10: []}
    for _ in range(rounds):
        for K, values in took.items():
            start = time.perf_counter()
            GenerativeClassifier(model, "importance_weighted", K).predict(test.images)
            values.append(time.perf_counter() - start)
    one, ten = (median(values) for values in took.values())
    print(
        f"cvae-50d, importance-weighted: {one:.2f} s with one draw, {ten:.2f} s with ten, {ten / one:.1f} times as long"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000, help="images for the loop (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs (default 3)")
    arguments = parser.parse_args()
    compare(arguments.images, arguments.rounds)
