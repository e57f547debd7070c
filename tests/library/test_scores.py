"""Many scores from the same draws, the noise that depends on nothing but the image, and memory that stays flat."""

import math

import numpy as np
import pytest
import torch
from toys import labelled, one_by_one, seven_images

from cvae_lib import CVAE, GenerativeClassifier, loss, scores
from cvae_lib.loss import BOUNDS
from cvae_lib.scores import noise_of, scores_by_draws


@pytest.fixture
def model() -> CVAE:
    return labelled()


@pytest.fixture
def x() -> torch.Tensor:
    return seven_images()


@pytest.mark.parametrize("chunk", [2**22, 2 * 30 * 3 * 5])
def test_all_scores_at_once_are_the_scores_one_by_one(model, x, chunk, monkeypatch):
    """Those of a plain loop over the first 2 draws, and over all 5; the latter are the classifier's."""
    for module in (loss, scores):
        monkeypatch.setattr(module, "CHUNK", chunk)
    found = scores_by_draws(model, x, (2, 5), seed=7)
    assert set(found) == {(bound, K) for bound in BOUNDS for K in (2, 5)}
    for (bound, K), table in found.items():
        expected = one_by_one(model, x, noise_of(x, 5, 2, seed=7)[:K], bound)
        np.testing.assert_allclose(table, expected, rtol=1e-5)
        if K == 5:
            whole = GenerativeClassifier(model, bound, 5, random_state=7)
            np.testing.assert_allclose(table, whole.log_likelihood(x), rtol=1e-5)


@pytest.mark.parametrize("num_samples", [(), (0, 1)])
def test_all_scores_need_numbers_of_draws(model, x, num_samples):
    with pytest.raises(ValueError, match="num_samples must be at least 1; got 0"):
        scores_by_draws(model, x, num_samples)


def test_the_seed_and_the_image_fix_the_noise_and_nothing_else_does(model, x):
    a = noise_of(x, 4, 2)
    torch.rand(3)  # the caller's random state takes no part
    again, b = noise_of(x, 4, 2), noise_of(x, 4, 2, seed=1)
    assert torch.equal(a, again)
    rows = torch.cat([a, b], 1).flatten(2).movedim(1, 0).flatten(1)
    assert len(rows.unique(dim=0)) == 14  # 7 images, 2 seeds
    before = torch.get_rng_state()
    GenerativeClassifier(model).predict(x)
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_is_standard_normal_and_independent_between_images_and_seeds():
    """4,000 images that differ in one pixel by little, two seeds: means, variances and correlations."""
    x = torch.full((4000, 30), 0.5)
    x[:, 7] = torch.linspace(0, 1, 4000)
    noise = torch.cat([noise_of(x, 2, 2, seed)[:, :, 0] for seed in (0, 1)])
    draws = noise.movedim(1, 0).flatten(1)  # (images, 2 seeds x 2 samples x 2 dimensions)
    neighbours = torch.cat([draws[:-1], draws[1:]], 1)
    four_errors = 4 / math.sqrt(4000)
    assert draws.mean(0).abs().max() < four_errors
    assert (draws.var(0) - 1).abs().max() < four_errors * math.sqrt(2)
    assert (torch.corrcoef(neighbours.T) - torch.eye(16)).abs().max() < four_errors


@pytest.mark.parametrize(
    ("images", "labels", "num_samples"), [(10_000, 10, 1), (10_000, 10, 100), (50, 10, 3_000), (3, 7_000, 2)]
)
def test_memory_stays_flat(images, labels, num_samples, monkeypatch):
    """No more pixels are decoded at a time than CHUNK says, or than one image and one sample under all labels have."""
    model = CVAE(784, (8,), 2, labels)
    sizes = []

    def decode(z, y):
        sizes.append(z[..., 0].numel() * 784)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "decode", decode)
    with pytest.raises(KeyboardInterrupt):
        scores_by_draws(model, torch.rand(1, 784).expand(images, 784), (num_samples,))
    assert sizes[0] <= max(scores.CHUNK, labels * 784)
    assert sizes[0] > 0.4 * min(scores.CHUNK, images * labels * num_samples * 784)  # and not needlessly little


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_or_a_model_without_labels_ends_in_a_sentence(model, x, seed):
    with pytest.raises(ValueError, match=rf"a seed from 0 to 2\*\*32 - 1; .*seed={seed}"):
        scores_by_draws(model, x, (1,), seed=seed)
    with pytest.raises(ValueError, match=r"Scores need labels .*num_labels=0"):
        scores_by_draws(CVAE(30, (8,), 2), x, (1,))
