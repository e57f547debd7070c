"""The generative classifier, against a plain loop, exact Bayes classifiers and scikit-learn's metrics."""

import math

import numpy as np
import pytest
import torch
from exact import LinearGaussian
from sklearn.metrics import accuracy_score, log_loss
from toys import labelled, one_by_one, seven_images

from cvae_lib import CVAE, GenerativeClassifier, load, loss, scores
from cvae_lib.course import dataset_name
from cvae_lib.loss import BOUNDS
from cvae_lib.scores import noise_of


@pytest.fixture
def model() -> CVAE:
    return labelled()


@pytest.fixture
def x() -> torch.Tensor:
    return seven_images()


# The numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 5])
@pytest.mark.parametrize("bound", ["elbo", "importance_weighted", "reconstruction"])
def test_log_likelihood_is_what_a_plain_loop_computes(model, x, bound, num_samples):
    scores = GenerativeClassifier(model, bound, num_samples)
    expected = one_by_one(model, x, noise_of(x, num_samples, 2), bound)
    np.testing.assert_allclose(scores.log_likelihood(x), expected, rtol=1e-5)


@pytest.mark.parametrize("bound", ["elbo", "importance_weighted", "reconstruction"])
def test_the_shipped_model_gives_what_a_plain_loop_computes(shipped, bound):
    x = load(dataset_name(), "test").images[:8]
    scores = GenerativeClassifier(shipped, bound, 3, random_state=5)
    expected = one_by_one(shipped, x, noise_of(x, 3, 2, seed=5), bound)
    np.testing.assert_allclose(scores.log_likelihood(x), expected, rtol=1e-4)


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


@pytest.mark.parametrize("bound", [*BOUNDS, "quadrature"])
@pytest.mark.parametrize("chunk", [1, 100, 1_000])
def test_chunks_do_not_change_the_answer(model, x, bound, chunk, monkeypatch):
    """One sample at a time, several, several images, everything at once: 5 samples of 3 labels are 450 pixels."""
    classifier = GenerativeClassifier(model, bound, num_samples=5)
    together = classifier.log_likelihood(x)
    for module in (loss, scores):
        monkeypatch.setattr(module, "CHUNK", chunk)
    torch.testing.assert_close(classifier.log_likelihood(x), together, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bound", [*BOUNDS, "quadrature"])
def test_an_image_has_its_score_whoever_stands_beside_it(model, x, bound):
    """Alone, in reverse order, among others: what scikit-learn asks of `predict`."""
    scores = GenerativeClassifier(model, bound, num_samples=2)
    table = scores.log_likelihood(x)
    torch.testing.assert_close(scores.log_likelihood(x.flip(0)), table.flip(0), rtol=1e-5, atol=0)
    torch.testing.assert_close(scores.log_likelihood(x[4:5]), table[4:5], rtol=1e-5, atol=0)


# scikit-learn's manners -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [*BOUNDS, "quadrature"])
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
        ({"bound": "iwae"}, "Unknown bound 'iwae'; known: reconstruction, elbo, importance_weighted, quadrature"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"random_state": -1}, "seed from 0 to"),
        ({"random_state": 2**32}, "seed from 0 to"),
        ({"prior": [0.5, 0.5]}, "prior must hold 3 probabilities that add up to 1"),
        ({"prior": [980, 1135, 1032]}, "prior must hold 3 probabilities that add up to 1"),
        ({"prior": [1.2, -0.1, -0.1]}, "prior must hold 3 probabilities"),
        ({"prior": [math.nan, 0.5, 0.5]}, "prior must hold 3 probabilities"),
    ],
)
def test_a_wrong_argument_ends_in_a_sentence_when_it_is_used(model, x, arguments, message):
    """As scikit-learn wants it: arguments are stored as they are, and looked at when they matter."""
    classifier = GenerativeClassifier(model, **arguments)
    with pytest.raises(ValueError, match=message):
        classifier.predict(x)


def test_a_model_that_cannot_do_it_is_refused(x):
    with pytest.raises(ValueError, match="need labels"):
        GenerativeClassifier(CVAE(30, (8,), 2)).predict(x)
    with pytest.raises(ValueError, match="code of two dimensions; this model has 3"):
        GenerativeClassifier(CVAE(30, (8,), 3, 10), "quadrature").predict(x)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(30), "Expected 2D array, got 1D array"),
        (torch.rand(2, 5, 7), r"must have shape \(\.\.\., 30\); got \(2, 1, 35\)"),
        (torch.rand(2, 29), r"must have shape \(\.\.\., 30\); got \(2, 1, 29\)"),
        (torch.rand(0, 30), r"0 sample\(s\) .* a minimum of 1 is required"),
        (torch.full((2, 30), math.nan), "contains NaN"),
        (torch.full((2, 30), math.inf), "contains infinity"),
        (255 * torch.ones(2, 30, dtype=torch.uint8), r"values in \[0, 1\]"),
        ([[0.1] * 30, [0.2] * 29], "inhomogeneous shape"),
        ("seven", "could not convert string to float: 'seven'"),
        (None, "Expected 2D array, got scalar"),
    ],
)
@pytest.mark.parametrize("bound", ["elbo", "quadrature"])
def test_bad_images_end_in_a_sentence(model, images, message, bound):
    with pytest.raises(ValueError, match=message):
        GenerativeClassifier(model, bound).predict(images)


def test_score_needs_a_label_for_each_image(model, x):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[1, 7\]"):
        GenerativeClassifier(model).score(x, [1])
