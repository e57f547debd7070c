"""Seconds per epoch of the source document's training loop and of `cvae_lib.fit`, side by side.

    python benchmarks/training.py [--epochs N] [--seeds N] [--conditional]

Both train the same network (784-512-256, two latent dimensions) from the same initial weights on the same
data, with batches of 128 and Adam at 1e-3. They take turns, seed by seed, so that a change in the machine's
load falls on both.
"""

import argparse
import time
from statistics import mean, median

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import datasets
from torchvision.transforms import ToTensor

from cvae_lib import CVAE, evaluate, fit, load
from cvae_lib.course import dataset_name
from cvae_lib.data import data_folder

BATCH_SIZE, LEARNING_RATE = 128, 1e-3


class ConcatNetwork(nn.Module):
    """The source document's network: labels enter as appended one-hot vectors, the image leaves through a sigmoid."""

    def __init__(self, num_labels: int = 0, pixels: int = 784, hidden: tuple[int, int] = (512, 256), latent: int = 2):
        super().__init__()
        wide, narrow = hidden
        self.num_labels, self.pixels = num_labels, pixels
        self.encoder = nn.Sequential(
            nn.Linear(pixels + num_labels, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU()
        )
        self.mean = nn.Linear(narrow, latent)
        self.log_variance = nn.Linear(narrow, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + num_labels, narrow), nn.ReLU(),
            nn.Linear(narrow, wide), nn.ReLU(),
            nn.Linear(wide, pixels), nn.Sigmoid(),
        )  # fmt: skip

    def append_label(self, inputs: Tensor, y: Tensor | None) -> Tensor:
        """[inputs; onehot(y)], or the inputs alone in a network without labels."""
        if y is None or not self.num_labels:
            return inputs
        return torch.cat([inputs, F.one_hot(y, self.num_labels).to(inputs)], dim=1)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (batch, latent)."""
        h = self.encoder(self.append_label(x, y))
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean image, (batch, pixels)."""
        return self.decoder(self.append_label(z, y))

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The negative ELBO with one draw, in nats, summed over the batch."""
        mu, log_var = self.encode(x, y)
        z = mu + torch.randn_like(mu) * (log_var / 2).exp()
        kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum()
        return kl + F.binary_cross_entropy(self.decode(z, y), x, reduction="sum")

    def to_cvae(self) -> CVAE:
        """The same function as a `CVAE`: the label's columns of a first layer become its bias per label."""
        (one, _, two, _), (three, _, four, _, five, _) = self.encoder, self.decoder
        cvae = CVAE(
            self.pixels, (one.out_features, two.out_features), three.in_features - self.num_labels, self.num_labels
        )
        heads = self.mean, self.log_variance
        both = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        weights = {}
        for part, first, rest in (
            ("encoder", one, [(two.weight, two.bias), both]),
            ("decoder", three, [(four.weight, four.bias), (five.weight, five.bias)]),
        ):
            width = first.in_features - self.num_labels
            weights[f"{part}.body.first.weight"] = first.weight[:, :width]
            if self.num_labels:
                weights[f"{part}.body.label_bias.weight"] = (first.weight[:, width:] + first.bias[:, None]).T
            else:
                weights[f"{part}.body.first.bias"] = first.bias
            for index, (weight, bias) in zip((1, 3), rest, strict=True):
                weights[f"{part}.body.rest.{index}.weight"], weights[f"{part}.body.rest.{index}.bias"] = weight, bias
        cvae.to(one.weight.dtype).load_state_dict(weights)
        return cvae


def source_loop(network: ConcatNetwork, data: Dataset, epochs: int) -> list[float]:
    """Train as the source document does, image by image through a DataLoader; seconds per epoch."""
    loader = DataLoader(data, batch_size=BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    seconds = []
    for _ in range(epochs):
        start, total = time.perf_counter(), 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = network.loss(x.view(-1, network.pixels), y)
            loss.backward()
            total += loss.item()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def compare(epochs: int, seeds: int, num_labels: int) -> None:
    """Run both, and print the table."""
    train, test = load(dataset_name(), "train"), load(dataset_name(), "test")
    if dataset_name() == "mnist":
        one_by_one: Dataset = datasets.MNIST(str(data_folder()), train=True, transform=ToTensor())
    else:
        one_by_one = TensorDataset(*train)
    print(f"Data: {train}; final loss on {test}")
    print(f"784-512-256, 2 latent dimensions, {num_labels} labels, batches of {BATCH_SIZE}, Adam at {LEARNING_RATE:g}")
    print(f"{epochs} epochs, {seeds} seeds, torch {torch.__version__}, {torch.get_num_threads()} threads\n")

    seconds: dict[str, list[float]] = {"DataLoader loop": [], "cvae_lib.fit": []}
    losses: dict[str, list[float]] = {name: [] for name in seconds}
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = ConcatNetwork(num_labels)
        model = network.to_cvae()
        seconds["DataLoader loop"] += source_loop(network, one_by_one, epochs)
        how = {"epochs": epochs, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "seed": seed}
        history = fit(model, train, quiet=True, **how)
        seconds["cvae_lib.fit"] += history.column("seconds")
        for name, trained in zip(losses, (network.to_cvae(), model), strict=True):
            losses[name].append(evaluate(trained, test).loss.item())

    print(f"{'':16} {'s/epoch (median)':>17} {'test loss (nats)':>17}   each seed")
    for name, values in losses.items():
        each = " ".join(f"{value:.2f}" for value in values)
        print(f"{name:16} {median(seconds[name]):17.2f} {mean(values):17.2f}   {each}")
    slow, fast = (median(values) for values in seconds.values())
    print(f"\nfit takes {fast / slow:.2f} of the loop's time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="epochs for each seed (default 3)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--conditional", action="store_true", help="with labels: the CVAE instead of the VAE")
    arguments = parser.parse_args()
    compare(arguments.epochs, arguments.seeds, 10 if arguments.conditional else 0)
