"""The benchmarks compare like with like."""

import re
from pathlib import Path

import pytest

from benchmarks import training as benchmark

ROOT = Path(__file__).parents[2]


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
