"""The benchmarks compare like with like."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import training as benchmark
from cvae_lib import GenerativeClassifier, load
from cvae_lib.course import dataset_name

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [0, 10])
def test_the_benchmark_compares_like_with_like(monkeypatch, capsys, num_labels):
    """From the same weights both loops reach the same loss, give or take the order of the images and the draws."""
    monkeypatch.setenv("CVAE_DATASET", "digits")
    benchmark.compare(epochs=4, seeds=1, num_labels=num_labels)
    table = capsys.readouterr().out
    assert table.startswith("Data: embedded digits train, 1,500 images; final loss on embedded digits test, 297 images")
    loop, ours = (
        float(re.search(rf"{name} +[\d.]+ +([\d.]+)", table)[1]) for name in ("DataLoader loop", "cvae_lib.fit")
    )
    assert ours == pytest.approx(loop, rel=0.02)
    assert re.search(r"fit takes \d+\.\d\d of the loop's time", table)


@torch.no_grad()
def test_the_benchmarks_loop_classifies_with_the_same_model(shipped, monkeypatch):
    """Its concat-one-hot network has the posterior and the image of the weights it was made from."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from classification import source_loop, source_network

    network = source_network(shipped)
    x, y = torch.rand(10, 784), torch.arange(10)
    mu, log_var = network.encode(x, y)
    posterior = shipped.encode(x, y)
    torch.testing.assert_close(mu, posterior.loc, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_var, posterior.variance.log(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.decode(mu, y), shipped.decode(posterior.loc, y).mean, rtol=1e-4, atol=1e-4)

    data = load(dataset_name(), "test")
    seconds, accuracy = source_loop(network, torch.utils.data.TensorDataset(data.images[:50], data.labels[:50]))
    assert seconds > 0
    assert abs(accuracy - GenerativeClassifier(shipped, "reconstruction").score(*(part[:50] for part in data))) <= 0.1
