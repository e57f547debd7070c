"""The generative classifier, against a plain loop, exact Bayes classifiers and scikit-learn's metrics."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from sklearn.metrics import accuracy_score, log_loss
from torch.nn import functional as F

from cvae_lib import CVAE, GenerativeClassifier, classifier, dataset_name, load
from cvae_lib.classifier import BOUNDS, scores_by_draws

ROOT = Path(__file__).parents[1]


@pytest.fixture
def model() -> CVAE:
    """30 pixels, 3 labels, weights large enough for posteriors off the prior."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CVAE(30, (16, 8), 2, 3)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(2)
        return model


@pytest.fixture
def x() -> torch.Tensor:
    """Seven grey images, the first of them black and white."""
    images = torch.rand(7, 30, generator=torch.Generator().manual_seed(1))
    images[0] = images[0].round()
    return images


@pytest.fixture(scope="module")
def shipped() -> CVAE:
    return CVAE.from_pretrained("cvae-2d")


# The numbers ----------------------------------------------------------------------------------------------------------


def one_by_one(model: CVAE, x: torch.Tensor, noise: torch.Tensor, bound: str) -> np.ndarray:
    """A plain loop over images, labels and samples, in float64, from what the networks emit."""
    body = [part.body.double() for part in (model.encoder, model.decoder)]
    table = np.zeros((len(x), model.num_labels))
    for i, image in enumerate(x.double()):
        for label in range(model.num_labels):
            y = torch.tensor([label])
            mu, log_var = body[0](image[None], y)[0].chunk(2)
            kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum()
            terms = []
            for epsilon in noise[:, i, 0].double():
                z = mu + epsilon * (log_var / 2).exp()
                log_p = -F.binary_cross_entropy(body[1](z[None], y)[0].sigmoid(), image, reduction="sum")
                log_ratio = -(z**2).sum() / 2 + (epsilon**2 + log_var).sum() / 2  # log p(z) - log q(z | x, y)
                terms.append(
                    {"elbo": log_p - kl, "reconstruction": log_p, "importance_weighted": log_p + log_ratio}[
                        bound
                    ].item()
                )
            if bound == "importance_weighted":
                table[i, label] = max(terms) + math.log(np.exp(np.array(terms) - max(terms)).mean())
            else:
                table[i, label] = np.mean(terms)
    model.float()
    return table


@pytest.mark.parametrize("num_samples", [1, 5])
@pytest.mark.parametrize("bound", ["elbo", "importance_weighted", "reconstruction"])
def test_log_likelihood_is_what_a_plain_loop_computes(model, x, bound, num_samples):
    scores = GenerativeClassifier(model, bound, num_samples)
    expected = one_by_one(model, x, scores._noise(x), bound)
    np.testing.assert_allclose(scores.log_likelihood(x), expected, rtol=1e-5)


@pytest.mark.parametrize("bound", ["elbo", "importance_weighted", "reconstruction"])
def test_the_shipped_model_gives_what_a_plain_loop_computes(shipped, bound):
    x = load(dataset_name(), "test").images[:8]
    scores = GenerativeClassifier(shipped, bound, 3, seed=5)
    expected = one_by_one(shipped, x, scores._noise(x), bound)
    np.testing.assert_allclose(scores.log_likelihood(x), expected, rtol=1e-4)


@pytest.mark.parametrize("chunk", [2**22, 2 * 30 * 3 * 5])
def test_all_scores_at_once_are_the_scores_one_by_one(model, x, chunk, monkeypatch):
    """With 5 draws those of the classifier, with 2 those of a plain loop over the first 2 of its draws."""
    monkeypatch.setattr(classifier, "CHUNK", chunk)
    found = scores_by_draws(model, x, (2, 5), seed=7)
    assert set(found) == {(bound, K) for bound in BOUNDS if bound != "quadrature" for K in (2, 5)}
    for (bound, K), scores in found.items():
        whole = GenerativeClassifier(model, bound, 5, seed=7)
        expected = whole.log_likelihood(x) if K == 5 else one_by_one(model, x, whole._noise(x)[:2], bound)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("num_samples", [(), (0, 1)])
def test_all_scores_need_numbers_of_draws(model, x, num_samples):
    with pytest.raises(ValueError, match=r"num_samples must hold numbers of draws, each at least 1; got \("):
        scores_by_draws(model, x, num_samples)


def test_with_quadrature_it_is_the_bayes_classifier():
    """(9.1) for Gaussian classes whose densities are known, to five digits, with unequal class frequencies."""
    exact = LinearGaussian(latent_dim=2, pixels=4, num_labels=3)
    prior = torch.tensor([0.5, 0.3, 0.2])
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    expected = (exact.marginal(torch.arange(3)).log_prob(x[:, None].double()) + prior.log()).softmax(-1)
    exact.float()
    probabilities = GenerativeClassifier(exact, "quadrature", prior=prior).predict_proba(x)
    np.testing.assert_allclose(probabilities, expected.detach(), atol=1e-5)


def test_the_prior_adds_its_logarithm(model, x):
    """Bayes' rule (9.1) twice: with the uniform prior, and reweighted by hand."""
    prior = np.array([0.7, 0.2, 0.1])
    uniform, weighted = (GenerativeClassifier(model, prior=p).predict_proba(x) for p in (None, prior))
    np.testing.assert_allclose(weighted, uniform * prior / (uniform * prior).sum(1, keepdims=True), rtol=1e-9)


def test_a_label_of_prior_zero_is_never_predicted(model, x):
    scores = GenerativeClassifier(model, prior=[0.0, 0.5, 0.5])
    assert (scores.predict_proba(x)[:, 0] == 0).all()
    assert 0 not in scores.predict(x)


# Noise and chunks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("chunk", [1, 100, 1_000])
def test_chunks_do_not_change_the_answer(model, x, bound, chunk, monkeypatch):
    """One sample at a time, several, several images, everything at once: 5 samples of 3 labels are 450 pixels."""
    scores = GenerativeClassifier(model, bound, num_samples=5)
    together = scores.log_likelihood(x)
    monkeypatch.setattr(classifier, "CHUNK", chunk)
    torch.testing.assert_close(scores.log_likelihood(x), together, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bound", BOUNDS)
def test_an_image_has_its_score_whoever_stands_beside_it(model, x, bound):
    """Alone, in reverse order, among others: what scikit-learn asks of `predict`."""
    scores = GenerativeClassifier(model, bound, num_samples=2)
    table = scores.log_likelihood(x)
    torch.testing.assert_close(scores.log_likelihood(x.flip(0)), table.flip(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(scores.log_likelihood(x[4:5]), table[4:5], rtol=1e-5, atol=0)


def test_the_seed_and_the_image_fix_the_noise_and_nothing_else_does(model, x):
    a, again, b = (GenerativeClassifier(model, num_samples=4, seed=seed)._noise(x) for seed in (0, 0, 1))
    torch.rand(3)  # the caller's random state takes no part
    assert torch.equal(a, again)
    rows = torch.cat([a, b], 1).flatten(2).movedim(1, 0).flatten(1)
    assert len(rows.unique(dim=0)) == 14  # 7 images, 2 seeds
    before = torch.get_rng_state()
    GenerativeClassifier(model).predict(x)
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_is_standard_normal_and_independent_between_images_and_seeds(model):
    """4,000 images that differ in one pixel by little, two seeds: means, variances and correlations."""
    x = torch.full((4000, 30), 0.5)
    x[:, 7] = torch.linspace(0, 1, 4000)
    noise = torch.cat([GenerativeClassifier(model, num_samples=2, seed=s)._noise(x)[:, :, 0] for s in (0, 1)])
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
        GenerativeClassifier(model, num_samples=num_samples).log_likelihood(torch.rand(1, 784).expand(images, 784))
    assert sizes[0] <= max(classifier.CHUNK, labels * 784)
    assert sizes[0] > 0.4 * min(classifier.CHUNK, images * labels * num_samples * 784)  # and not needlessly little


# scikit-learn's manners -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", BOUNDS)
def test_it_answers_as_scikit_learn_users_expect(model, x, bound):
    scores = GenerativeClassifier(model, bound)
    images, labels = x.numpy(), np.array([0, 1, 2, 0, 1, 2, 0])
    probabilities = scores.predict_proba(images)
    assert scores.classes_.tolist() == [0, 1, 2]
    assert probabilities.shape == (7, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_allclose(np.log(probabilities), scores.predict_log_proba(images))
    predictions = scores.predict(images)
    assert predictions.tolist() == scores.classes_[probabilities.argmax(1)].tolist()
    assert scores.score(images, labels) == accuracy_score(labels, predictions)
    assert scores.score(x, torch.from_numpy(labels)) == accuracy_score(labels, predictions)
    assert log_loss(labels, probabilities, labels=scores.classes_) > 0


def test_lists_arrays_doubles_and_integers_are_images_too(model, x):
    scores = GenerativeClassifier(model)
    black_and_white = x.round()
    expected = scores.log_likelihood(black_and_white)
    for images in (
        black_and_white.tolist(),
        black_and_white.double().numpy(),
        black_and_white.int(),
        black_and_white > 0,
    ):
        assert torch.equal(scores.log_likelihood(images), expected)


def test_probabilities_too_small_for_a_float_keep_their_logarithm(shipped):
    """(9.3) on a black image under "1" and under "0": hundreds of nats apart, where exp gives 0."""
    scores = GenerativeClassifier(shipped, "elbo").log_likelihood(torch.zeros(1, 784))
    log_p = GenerativeClassifier(shipped, "elbo").predict_log_proba(torch.zeros(1, 784))
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(log_p[0, 0] - log_p[0, 1], (scores[0, 0] - scores[0, 1]).item(), rtol=1e-5)


def test_it_needs_no_gradient_and_leaves_none(model, x):
    assert not GenerativeClassifier(model).log_likelihood(x.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": "iwae"}, "Unknown bound 'iwae'; known: elbo, importance_weighted, reconstruction, quadrature"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"seed": -1}, "seed from 0 to"),
        ({"seed": 2**32}, "seed from 0 to"),
        ({"prior": [0.5, 0.5]}, "prior must hold 3 probabilities that add up to 1"),
        ({"prior": [980, 1135, 1032]}, "prior must hold 3 probabilities that add up to 1"),
        ({"prior": [1.2, -0.1, -0.1]}, "prior must hold 3 probabilities"),
        ({"prior": [math.nan, 0.5, 0.5]}, "prior must hold 3 probabilities"),
    ],
)
def test_a_wrong_argument_ends_in_a_sentence(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        GenerativeClassifier(model, **arguments)


def test_a_model_that_cannot_do_it_is_refused():
    with pytest.raises(ValueError, match="needs a model with labels"):
        GenerativeClassifier(CVAE(30, (8,), 2))
    with pytest.raises(ValueError, match="code of two dimensions; this model has 3"):
        GenerativeClassifier(CVAE(30, (8,), 3, 10), "quadrature")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(30), r"shape \(images, 30\); got \(30,\)"),
        (torch.rand(2, 5, 6), r"shape \(images, 30\); got \(2, 5, 6\)"),
        (torch.rand(2, 29), r"shape \(\.\.\., 30\); got \(2, 29\)"),
        (torch.rand(0, 30), "at least one"),
        (torch.full((2, 30), math.nan), "NaN or infinite"),
        (255 * torch.ones(2, 30, dtype=torch.uint8), r"values in \[0, 1\]"),
        ([[0.1] * 30, [0.2] * 29], "array of numbers"),
        ("seven", "array of numbers"),
        (None, "array of numbers"),
    ],
)
@pytest.mark.parametrize("bound", ["elbo", "quadrature"])
def test_bad_images_end_in_a_sentence(model, images, message, bound):
    with pytest.raises(ValueError, match=message):
        GenerativeClassifier(model, bound).predict(images)


def test_score_needs_a_label_for_each_image(model, x):
    with pytest.raises(ValueError, match=r"one label per image; got labels of shape \(1,\)"):
        GenerativeClassifier(model).score(x, [1])


# The benchmark --------------------------------------------------------------------------------------------------------


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
