"""The classifier is a scikit-learn estimator: its checks pass, and what people do with an estimator works."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix, get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from toys import labelled, seven_images

from cvae_lib import CVAE, GenerativeClassifier, load
from cvae_lib.course import dataset_name

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
SKIPPED = {
    "check_array_api_input": "scikit-learn runs it only where SCIPY_ARRAY_API is set",
    "check_classifier_data_not_an_array": "scikit-learn runs one half of it only where pandas is installed",
}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 8x8 digits, whose values go from 0 to 16."""
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def trained(digits) -> GenerativeClassifier:
    """Trained on the first 1,200 digits under their names; no test may change it."""
    X, y = digits
    return unfitted().fit(X[:1200], NAMES[y[:1200]])


def unfitted(**arguments) -> GenerativeClassifier:
    return GenerativeClassifier(**{"hidden_sizes": (128,), "latent_dim": 8, "epochs": 30} | arguments)


@pytest.fixture
def x() -> torch.Tensor:
    return seven_images()


@pytest.fixture
def ready() -> GenerativeClassifier:
    """Around a model of 30 pixels and 3 labels that was made elsewhere."""
    return GenerativeClassifier(labelled())


# scikit-learn's own checks --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_check_of_scikit_learn_passes():
    """More than 50 of them, on a small model; those that scikit-learn leaves out are listed with its reason."""
    results = check_estimator(GenerativeClassifier(hidden_sizes=(32,), latent_dim=4, epochs=20), on_fail=None)
    failed = [(one["check_name"], one["exception"]) for one in results if one["status"] not in ("passed", "skipped")]
    assert not failed
    assert {one["check_name"] for one in results if one["status"] == "skipped"} <= set(SKIPPED)
    assert sum(one["status"] == "passed" for one in results) > 50


# What an estimator can do ---------------------------------------------------------------------------------------------


def test_arguments_are_kept_untouched_and_cloned():
    arguments = {"bound": "iwae", "num_samples": -3, "random_state": 7, "prior": [0.5, 0.5], "hidden_sizes": [4]}
    classifier = GenerativeClassifier(**arguments)
    assert classifier.get_params().items() >= arguments.items()
    assert all(classifier.get_params()[name] is value for name, value in arguments.items())
    copied = clone(classifier)
    assert copied is not classifier
    assert copied.get_params() == classifier.get_params()
    assert copied.set_params(num_samples=5).num_samples == 5


def test_a_clone_of_a_classifier_with_a_model_has_a_model_of_its_own(ready, x):
    copied = clone(ready)
    assert copied.model is not ready.model
    assert_allclose(copied.predict_proba(x), ready.predict_proba(x))


def test_a_clone_is_not_fitted(trained, digits):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clone(trained).predict(digits[0][:3])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "log_likelihood"])
def test_without_a_model_it_says_that_it_is_not_fitted(method, x):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(GenerativeClassifier(), method)(x)


@pytest.mark.slow
def test_it_learns_the_digits_and_repeats_itself(digits, trained):
    """Nearest class mean, which needs no model, knows 88 % of these; one label for all, 10 %."""
    X, y = digits
    assert trained.score(X[1200:], NAMES[y[1200:]]) > 0.75
    again = clone(trained).fit(X[:1200], NAMES[y[:1200]])
    assert np.array_equal(again.predict_proba(X[1200:]), trained.predict_proba(X[1200:]))
    other = clone(trained).set_params(random_state=1).fit(X[:1200], NAMES[y[:1200]])
    assert not np.allclose(other.predict_proba(X[1200:]), trained.predict_proba(X[1200:]))


def test_training_leaves_torchs_random_state_as_it_was(digits):
    state = torch.get_rng_state()
    unfitted(epochs=1).fit(digits[0][:50], digits[1][:50])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_cross_validation_on_the_digits(digits):
    scores = cross_val_score(unfitted(), *digits, cv=3)
    assert len(scores) == 3
    assert min(scores) > 0.7


def test_a_pipeline_goes_in_front_of_it(digits):
    X, y = digits[0][:300], digits[1][:300]
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 16), unfitted(epochs=2)).fit(X, y)
    assert_allclose(pipeline.predict_proba(X), unfitted(epochs=2).fit(X / 16, y).predict_proba(X / 16))
    assert pipeline.score(X, y) == accuracy_score(y, pipeline.predict(X))


def test_a_grid_search_chooses_among_bounds(digits):
    X, y = digits[0][:300], digits[1][:300]
    search = GridSearchCV(unfitted(epochs=2), {"bound": ["elbo", "reconstruction"], "num_samples": [1, 3]}, cv=2)
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.score(X, y) == search.score(X, y)


# What labels are called -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_names_of_the_classes_are_what_it_answers(digits, trained):
    X, y = digits
    assert trained.classes_.tolist() == sorted(NAMES)
    numbers = unfitted().fit(X[:1200], [sorted(NAMES).index(NAMES[label]) for label in y[:1200]])
    assert np.array_equal(trained.predict(X[1200:]), trained.classes_[numbers.predict(X[1200:])])
    assert_allclose(trained.predict_proba(X[1200:]), numbers.predict_proba(X[1200:]))


@pytest.mark.parametrize("kind", [object, str])
def test_the_labels_of_a_given_model_may_be_called_something(ready, x, kind):
    numbers = ready.predict(x)
    names = np.array(["a", "b", "c"], dtype=kind)
    named = GenerativeClassifier(ready.model).fit(x, names[[0, 1, 2, 0, 1, 2, 0]])
    assert named.predict(x).tolist() == names[numbers].tolist()
    assert named.score(x, names[numbers]) == 1


@pytest.mark.parametrize("kind", [object, str])
def test_labels_of_another_kind_than_the_classifiers_end_in_a_sentence_and_not_in_a_score_of_0(ready, x, kind):
    with pytest.raises(ValueError, match=r"[Mm]ix of"):
        ready.score(x, np.array(["0", "1", "2", "0", "1", "2", "0"], dtype=kind))


def test_labels_of_several_kinds_or_of_no_kind_end_in_a_sentence(digits):
    X, y = digits[0][:30], digits[1][:30]
    mixed = np.array([1, "a", None] * 10, dtype=object)
    for labels, message in ((mixed, "Unknown label type"), (y + 0.5, "Unknown label type: continuous")):
        with pytest.raises(ValueError, match=message):
            unfitted().fit(X, labels)


def test_a_given_model_needs_as_many_names_as_it_has_labels(ready, x):
    with pytest.raises(ValueError, match="The model has 3 labels; y has 2"):
        GenerativeClassifier(ready.model).fit(x, ["a", "b", "a", "b", "a", "b", "a"])


def test_categories_and_data_frames_of_pandas_are_understood(digits, trained):
    """What `fetch_openml` gives."""
    pandas = pytest.importorskip("pandas")
    X, y = digits
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    labels = pandas.Series(NAMES[y]).astype("category")
    fitted = unfitted().fit(frame[:1200], labels[:1200])
    assert_allclose(fitted.predict_proba(frame[1200:]), trained.predict_proba(X[1200:]), atol=1e-3)  # another rounding
    assert fitted.score(frame[1200:], labels[1200:]) > 0.75
    assert fitted.feature_names_in_[0] == "pixel0"


# Metrics --------------------------------------------------------------------------------------------------------------


def test_scorers_weights_and_displays_take_it(digits, trained):
    X, y = digits[0][1200:], NAMES[digits[1][1200:]]
    expected = -log_loss(y, trained.predict_proba(X), labels=trained.classes_)
    assert get_scorer("neg_log_loss")(trained, X, y) == pytest.approx(expected)
    weights = np.linspace(0, 1, len(y))
    weighted = weights[trained.predict(X) == y].sum() / weights.sum()
    assert trained.score(X, y, sample_weight=weights) == pytest.approx(weighted)
    display = ConfusionMatrixDisplay.from_estimator(trained, X, y)
    assert np.array_equal(display.confusion_matrix, confusion_matrix(y, trained.predict(X)))


def test_its_probabilities_can_be_calibrated(digits, trained):
    """One temperature, found on images that it was not trained on: no answer changes, and there it cannot do harm."""
    X, y = digits[0][1200:], NAMES[digits[1][1200:]]
    calibrated = CalibratedClassifierCV(FrozenEstimator(trained), method="temperature").fit(X, y)
    assert np.array_equal(calibrated.predict(X), trained.predict(X))
    before, after = (log_loss(y, some.predict_proba(X)) for some in (trained, calibrated))
    assert before - 0.1 < after < before + 1e-6


# What images may be ---------------------------------------------------------------------------------------------------


def test_a_view_from_the_end_a_memory_map_and_another_order_are_images(ready, x, tmp_path):
    table = ready.log_likelihood(x)
    array = x.numpy()
    np.save(tmp_path / "images.npy", array)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    for images in (mapped, np.asfortranarray(array), array.astype(">f8"), np.repeat(array, 2, axis=0)[::2]):
        torch.testing.assert_close(ready.log_likelihood(images), table)
    torch.testing.assert_close(ready.log_likelihood(array[::-1]).flip(0), table, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_a_sparse_matrix_is_called_what_it_is(ready, x, kind):
    with pytest.raises(TypeError, match=r"Sparse data was passed for X, but dense .* Use '.toarray\(\)'"):
        ready.predict(kind(x.numpy()))


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28)])
def test_images_may_keep_their_height_width_and_channels(shipped, shape):
    images, labels = load(dataset_name(), "test")
    x, y = images[:40], labels[:40]
    classifier = GenerativeClassifier(shipped)
    for some in (x.unflatten(1, shape), x.unflatten(1, shape).numpy()):
        assert torch.equal(classifier.log_likelihood(some), classifier.log_likelihood(x))
        assert classifier.score(some, y) == classifier.score(x, y)
    trained = unfitted(epochs=1)
    assert_allclose(
        trained.fit(x.unflatten(1, shape), y % 2).predict_proba(x), clone(trained).fit(x, y % 2).predict_proba(x)
    )


def test_bytes_are_divided_by_the_largest(digits):
    """By 16, a power of two, so that not even rounding differs."""
    X, y = digits[0][:200], digits[1][:200]
    assert X.max() == 16
    bytes_and_grey = [unfitted(epochs=2).fit(images, y).predict_proba(images) for images in (X.astype("uint8"), X / 16)]
    assert np.array_equal(*bytes_and_grey)


def test_images_brighter_than_any_in_training_or_of_another_size_end_in_a_sentence(digits, trained):
    with pytest.raises(ValueError, match=r"values in \[0, 1\] .* these lie in \[0, 2\]"):
        trained.predict(2 * digits[0][:5])
    with pytest.raises(ValueError, match=r"X has 32 features, but GenerativeClassifier is expecting 64"):
        trained.predict(digits[0][:5, :32])
    with pytest.raises(ValueError, match="Negative values in data passed to GenerativeClassifier"):
        unfitted().fit(-digits[0][:30], digits[1][:30])


def test_a_given_gaussian_model_may_have_pixels_below_0(x):
    model = CVAE(30, (8,), 2, 3, likelihood="gaussian")
    fitted = GenerativeClassifier(model).fit(x - 5, ["a", "b", "c", "a", "b", "c", "a"])
    assert fitted.predict(x - 5).tolist() == [["a", "b", "c"][i] for i in GenerativeClassifier(model).predict(x - 5)]
