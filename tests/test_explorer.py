"""The live elements of the pages compute what Python computes, and can be used by everyone everywhere."""

import base64
import functools
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from axe_playwright_python.sync_playwright import Axe
from book_fixture import ROOT, Book, _built_book, pages  # noqa: F401  (the fixture built_book)
from playwright.sync_api import Browser, Locator, Page, Route
from safetensors.torch import load_file
from test_browser import AXE, COLOURS, DESK, PHONE, browser, opened, served, sideways  # noqa: F401  (fixtures)
from torch.distributions import Bernoulli, Normal, kl_divergence

from cvae_lib import CVAE, GenerativeClassifier, dataset_name, elbo, load
from cvae_lib.course.experiments.empty_page import bounds, log_weights, search
from cvae_lib.course.export import EXPORTED, NUM_CODES, base64_halves, export, network
from cvae_lib.model import WEIGHTS
from cvae_lib.networks import MLP

EXPLORER = ROOT / "book" / "_static" / "explorer"
PLAYGROUND = "book/playground.html"
PLANES = {"vae-plane": "vae-2d", "cvae-plane": "cvae-2d"}
CLASSIFIER = "cvae-50d"
RUN = PLANES | {"training-replay": "vae-2d", "digit-classifier": CLASSIFIER}  # elements and the weights they run first
FETCHED = {
    "vae-plane": ("decoder", "codes"),
    "cvae-plane": ("decoder", "codes"),
    "training-replay": ("replay",),
    "digit-classifier": ("encoder", "decoder", "histogram"),
}
LIMITS = {
    "vae-plane": 1.3e6,
    "cvae-plane": 1.3e6,
    "training-replay": 100e3,
    "digit-classifier": 3.3e6,
}  # bytes, gzipped
READY = "(element) => element.means ?? element.answer"
ELEMENTS = ["elbo-lab", *RUN]
POINTS = [(0.0, 0.0), (0.5, -1.25), (-2.1, 0.7), (4.4, -4.4)]


def exported(name: str, folder: Path = EXPLORER / "weights") -> dict[str, Any]:
    """What a script file delivers."""
    call = re.fullmatch(r'explorer\.deliver\("(.*?)", (.*)\);\n', (folder / f"{name}.js").read_text())
    assert call, f"{name}.js is no call of explorer.deliver"
    assert call[1] == name
    return json.loads(call[2])


def numbers(content: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(content["numbers"]), "<f2")


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, built_book: Book, served: str) -> str:  # noqa: F811
    """Where the book is, opened as files and from a server."""
    return served if request.param == "http" else built_book.html.as_uri() + "/"


@pytest.fixture(scope="module")
def playground(browser: Browser, built_book: Book) -> Iterator[tuple[Page, list[str]]]:  # noqa: F811
    home = built_book.html.as_uri() + "/"
    page, complaints = opened(browser, home + PLAYGROUND, home, DESK)
    page.add_style_tag(content="* { transition: none !important }")  # no colours half way between two schemes
    yield page, complaints
    page.close()


@pytest.fixture
def page(playground: tuple[Page, list[str]]) -> Iterator[Page]:
    """The playground in a window of a desk with fresh elements, and nothing to complain about at the end."""
    page, complaints = playground
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    page.evaluate(
        """(tags) => {
          document.activeElement.blur();
          for (const tag of tags) document.querySelector(tag).replaceWith(document.createElement(tag));
        }""",
        ELEMENTS,
    )
    yield page
    assert not complaints


def brought_up(page: Page, tag: str) -> Locator:
    """An element in view, with its weights."""
    element = page.locator(tag).first
    element.scroll_into_view_if_needed()
    if tag in RUN:
        page.wait_for_function(READY, arg=element.element_handle())
    return element


def at_point(plane: Locator, z: tuple[float, float]) -> tuple[float, float]:
    """Where on the screen a point of the latent plane is."""
    return tuple(
        plane.evaluate(
            """(element, [z1, z2]) => {
              const matrix = element.querySelector(".over").getScreenCTM();
              const { x, y } = new DOMPoint(100 * z1, -100 * z2).matrixTransform(matrix);
              return [x, y];
            }""",
            z,
        )
    )


def where(plane: Locator) -> list[float]:
    return plane.evaluate("(element) => element.z")


def decoded(name: str, z: tuple[float, float] | list[float], y: torch.Tensor | None = None) -> torch.Tensor:
    """Means of the pixels by the library, in double precision from the same 16-bit weights."""
    model = CVAE.from_pretrained(name).double()
    with torch.no_grad():
        return model.decode(torch.tensor(z, dtype=torch.float64), y).mean


def same(found: object, expected: object, tolerance: float = 1e-4) -> None:
    found, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (found, expected))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)


# ---- What is exported ----


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is exported now, from MNIST."""
    if dataset_name() != "mnist":
        pytest.skip("codes, replay and histogram are of MNIST, which this run has not")
    folder = tmp_path_factory.mktemp("export")
    for name in EXPORTED:
        export(name, folder)
    return folder


def test_the_pages_run_the_weights_of_the_library() -> None:
    parts = {f"{name}.{part}" for name in EXPORTED for part in EXPORTED[name]}
    assert {path.stem for path in (EXPLORER / "weights").iterdir()} == parts
    for name in EXPORTED:
        model = CVAE.from_pretrained(name)
        digest = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
        for part in EXPORTED[name]:
            content = exported(f"{name}.{part}")
            found = (content.pop("weights"), content.pop("sha256"))
            assert found == (name, digest), "run `make weights` or its last step"
            if part in ("encoder", "decoder"):
                assert content == network(getattr(model, part).body)


@pytest.mark.parametrize("part", [f"{name}.{part}" for name in EXPORTED for part in EXPORTED[name] if "coder" in part])
def test_an_exported_network_holds_its_numbers_layer_by_layer(part: str) -> None:
    """Read back without the exporting code, as the page does."""
    name, which = part.split(".")
    content, state = exported(part), getattr(CVAE.from_pretrained(name), which).body.state_dict()
    found, at = numbers(content), 0
    for key in [key for key in state if key.endswith("weight") and key != "label_bias.weight"]:
        bias = state["label_bias.weight" if key == "first.weight" and content["labels"] else key[:-6] + "bias"]
        for tensor in (state[key].T, bias):
            assert np.array_equal(found[at : at + tensor.numel()], tensor.flatten().half().numpy())
            at += tensor.numel()
    assert at == len(found)


def test_everything_exported_is_there(fresh: Path) -> None:
    assert {path.name for path in fresh.iterdir()} == {path.name for path in (EXPLORER / "weights").iterdir()}


@pytest.mark.parametrize("name", PLANES.values())
def test_the_codes_are_those_of_the_first_test_images(name: str, fresh: Path) -> None:
    content, again = exported(f"{name}.codes"), exported(f"{name}.codes", fresh)
    assert len(content["labels"]) == NUM_CODES
    assert content["labels"] == again["labels"]
    np.testing.assert_allclose(numbers(content).astype(float), numbers(again).astype(float), rtol=2e-3, atol=1e-3)


def test_the_replay_is_of_the_stored_snapshots_and_says_whose_they_are(fresh: Path) -> None:
    content = exported("vae-2d.replay")
    assert content == exported("vae-2d.replay", fresh)
    stored = load_file(WEIGHTS / "vae-2d" / "snapshots.safetensors")
    assert np.array_equal(numbers(content), stored["means"].flatten().numpy())
    np.testing.assert_allclose(content["terms"], stored["terms"], atol=0.000051)
    log = json.loads((WEIGHTS / "vae-2d" / "training.json").read_text())["runs"][0]["epochs"]
    assert content["same_run"] == all(
        row["held_out_reconstruction"] == reconstruction
        for row, reconstruction in zip(log, stored["terms"][:, 0].double().tolist(), strict=True)
    )


def test_the_histogram_counts_log_p_of_x_over_the_test_images(fresh: Path) -> None:
    """Against numpy's counts of (9.3)'s denominator; images at the edge of a bin may round into its neighbour."""
    content, again = exported(f"{CLASSIFIER}.histogram"), exported(f"{CLASSIFIER}.histogram", fresh)
    scores = GenerativeClassifier(CVAE.from_pretrained(CLASSIFIER)).log_likelihood(load("mnist", "test").images)
    evidence = np.logaddexp.reduce(scores.double().numpy(), axis=1) - math.log(10)
    counts, edges = np.histogram(evidence, len(content["counts"]), (content["low"], content["high"]))
    assert edges[1] - edges[0] == 5
    assert sum(content["counts"]) == content["images"] == 10_000
    assert np.abs(counts - content["counts"]).sum() <= 10
    assert content.keys() == again.keys()


@pytest.mark.parametrize("tag", FETCHED)
def test_what_an_element_fetches_stays_small(tag: str) -> None:
    files = (EXPLORER / "weights" / f"{RUN[tag]}.{part}.js" for part in FETCHED[tag])
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= LIMITS[tag]


def test_scripts_stay_small() -> None:
    assert sum(path.stat().st_size for path in EXPLORER.glob("*.js")) <= 40_000


# ---- What the page computes ----


def test_every_16_bit_number_is_read_as_what_it_is(page: Page) -> None:
    halves = np.arange(2**16, dtype="<u2").view("<f2")
    halves = halves[np.isfinite(halves)]
    text = base64.b64encode(halves.tobytes()).decode()
    assert page.evaluate("(text) => [...explorer.halves(text)]", text) == halves.astype(float).tolist()


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_networks_of_any_shape_give_what_python_gives(page: Page, activation: str) -> None:
    """Several rows with a label each, one row under several labels, and a network without labels."""
    torch.manual_seed(0)
    x, y = torch.rand(4, 7, dtype=torch.float64), torch.tensor([2, 0, 1, 2])
    forward = "([content, x, y]) => [...new explorer.MLP(content).forward(x, y)]"
    with_labels, without = (MLP((7, 9, 6, 5), labels, activation).half().double() for labels in (3, 0))
    for mlp, rows, labels in ((with_labels, x, y), (with_labels, x[:1], y), (without, x, None)):
        content = network(mlp)
        found = page.evaluate(forward, [content, rows.flatten().tolist(), None if labels is None else labels.tolist()])
        same(found, mlp(rows, labels).flatten(), 1e-6)


def test_the_bernoulli_log_likelihood_is_torchs(page: Page) -> None:
    logits = torch.tensor([-200.0, -3.0, 0.0, 0.5, 40.0, 200.0], dtype=torch.float64)
    x = torch.tensor([0.0, 0.25, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    found = page.evaluate("([x, logits]) => explorer.logLikelihood(x, logits)", [x.tolist(), logits.tolist()])
    same(found, Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(), 1e-9)


def test_the_planes_decode_what_python_decodes(page: Page) -> None:
    vae, cvae = (brought_up(page, tag) for tag in PLANES)
    for z in POINTS:
        vae.evaluate("(element, z) => element.move(z)", z)
        same(vae.evaluate("(element) => [...element.means]"), decoded("vae-2d", z))
        cvae.evaluate("(element, z) => element.move(z)", z)
        expected = decoded("cvae-2d", z, torch.arange(10))
        same(cvae.evaluate("(element) => element.allMeans.map((means) => [...means])"), expected)
        same(cvae.evaluate("(element) => [...element.means]"), expected[4])


def test_what_is_painted_is_what_was_decoded(page: Page) -> None:
    cvae = brought_up(page, "cvae-plane")
    cvae.evaluate("(element) => element.move([1, 0.5])")
    painted = cvae.evaluate(
        """(element) => [...element.querySelectorAll("canvas")].map((canvas) =>
          [...canvas.getContext("2d").getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0))"""
    )
    means = 255 * decoded("cvae-2d", (1, 0.5), torch.arange(10))
    for picture, expected in zip(painted, [means[4], *means], strict=True):
        assert (torch.tensor(picture) - expected).abs().max() <= 0.51


@pytest.mark.parametrize("tag", PLANES)
def test_a_chosen_code_shows_its_reconstruction_and_its_posterior(page: Page, tag: str) -> None:
    plane, name = brought_up(page, tag), PLANES[tag]
    content = exported(f"{name}.codes")
    posteriors = numbers(content).astype(float).reshape(-1, 4)
    shown = [n for n, digit in enumerate(content["labels"]) if tag == "vae-plane" or digit == "4"]
    z = (0.8, 0.6)
    nearest = min(shown, key=lambda n: math.dist(posteriors[n, :2], z))
    mean, sigma = posteriors[nearest, :2].tolist(), posteriors[nearest, 2:].tolist()

    plane.evaluate("(element, z) => element.move(z)", z)
    plane.evaluate("(element) => element.choose(Infinity)")
    assert where(plane) == mean
    label = None if tag == "vae-plane" else torch.tensor(4)
    same(plane.evaluate("(element) => [...element.means]"), decoded(name, mean, label))
    ellipse = plane.locator(".posterior")
    same([float(ellipse.get_attribute(radius)) for radius in ("rx", "ry")], [200 * value for value in sigma], 1e-6)
    kl = kl_divergence(Normal(torch.tensor(mean), torch.tensor(sigma)), Normal(0.0, 1.0)).sum()
    said = plane.locator("dl").inner_text()
    assert f"Code of a {content['labels'][nearest]}" in said
    assert f"KL to the prior {kl:.2f} nats" in said


def test_the_plane_says_what_lives_nearby(page: Page) -> None:
    plane = brought_up(page, "vae-plane")
    plane.evaluate("(element) => element.move([2.2, 0.3])")
    content = exported("vae-2d.codes")
    far = np.hypot(*(numbers(content).astype(float).reshape(-1, 4)[:, :2] - (2.2, 0.3)).T)
    around = [content["labels"][n] for n in np.argsort(far)[:25]]
    for digit in set(around):
        assert f"{around.count(digit)} of a {digit}" in plane.locator(".about").inner_text()
    assert f"{100 * (1 - math.exp(-(2.2**2 + 0.3**2) / 2)):.1f} % of the prior" in plane.inner_text()


def places(replay: Locator) -> np.ndarray:
    """Where the digits of the replay are, in the latent plane."""
    moves = replay.evaluate("(element) => [...element.digits].map((digit) => digit.getAttribute('transform'))")
    return np.array([[float(number) for number in move[len("translate(") : -1].split()] for move in moves]) * (
        0.01,
        -0.01,
    )


def test_the_replay_shows_what_was_stored(page: Page) -> None:
    replay = brought_up(page, "training-replay")
    stored = load_file(WEIGHTS / "vae-2d" / "snapshots.safetensors")
    means, terms = stored["means"].double().numpy(), stored["terms"]
    for epoch in (0, 1, 7, 15):
        replay.evaluate("(element, epoch) => element.go(epoch)", epoch)
        np.testing.assert_allclose(places(replay), means[epoch], atol=1e-6)
        said = replay.locator("dl").inner_text()
        if epoch:
            assert f"{epoch} of 15" in said
            for value in (terms[epoch - 1].sum(), *terms[epoch - 1]):
                assert float(value) == pytest.approx(
                    min((float(text) for text in re.findall(r"\d+\.\d\d", said)), key=lambda v: abs(v - value)),
                    abs=0.011,
                )
        else:
            assert "before training" in said
            assert said.count("not measured") == 3
    replay.evaluate("(element) => element.go(2.25)")
    np.testing.assert_allclose(places(replay), 0.75 * means[2] + 0.25 * means[3], atol=1e-6)
    labels = load("mnist", "test").labels[:500].tolist() if dataset_name() == "mnist" else None
    if labels:
        assert replay.locator(".codes").text_content() == "".join(map(str, labels))


def test_the_replay_says_that_it_is_a_second_run_if_it_is(page: Page) -> None:
    said = brought_up(page, "training-replay").locator(".source").inner_text()
    assert ("a second run of its recipe and seed" in said) != exported("vae-2d.replay")["same_run"]


def fed(page: Page, images: torch.Tensor, noise: torch.Tensor, everything: bool = True) -> list[dict[str, Any]]:
    """What the page's classifier answers for images (N, pixels) and noise (N, K * latent_dim), or its scores only."""
    classifier = page.locator("digit-classifier").first
    return classifier.evaluate(
        """async (element, [images, noises, all]) => {
          const answers = [];
          for (const [i, x] of images.entries()) {
            const { scores, posteriors, means } = await element.model({ x, noise: noises[i] });
            const plain = posteriors.map(({ mean, sigma }) => [[...mean], [...sigma]]);
            answers.push(all ? { scores, posteriors: plain, means: means.map((row) => [...row]) } : { scores });
          }
          return answers;
        }""",
        [images.tolist(), noise.tolist(), everything],
    )


@pytest.mark.parametrize("draws", [1, 3])
def test_the_classifier_computes_what_python_computes(page: Page, draws: int) -> None:
    """Posterior, reconstruction and score (9.4) under every label, in double precision from the same 16-bit weights."""
    brought_up(page, "digit-classifier")
    model, labels = CVAE.from_pretrained(CLASSIFIER).double(), torch.arange(10)
    torch.manual_seed(draws)
    x = torch.rand(2, 784, dtype=torch.float64).round(decimals=3)
    x[1] = decoded("cvae-2d", (0.3, -1.1), torch.tensor(8))
    noise = torch.randn(draws, 2, 1, model.latent_dim).double()
    answers = fed(page, x, noise[:, :, 0].transpose(0, 1).flatten(1))
    with torch.no_grad():
        posterior = model.encode(x[:, None], labels)
        means = model.decode(posterior.loc + posterior.scale * noise, labels).mean.mean(0)
        scores = elbo(model, x[:, None], labels, noise=noise)
    for n, answer in enumerate(answers):
        same(answer["scores"], scores[n])
        same(answer["posteriors"], torch.stack([posterior.loc[n], posterior.scale[n]], 1))
        same(answer["means"], means[n])


def test_the_classifier_agrees_with_the_librarys_on_a_thousand_test_digits(page: Page) -> None:
    """Fed with the digits and with the library's own noise."""
    if dataset_name() != "mnist":
        pytest.skip("the digits are MNIST's, which this run has not")
    brought_up(page, "digit-classifier")
    classifier, images = GenerativeClassifier(CVAE.from_pretrained(CLASSIFIER)), load("mnist", "test").images[:1000]
    noise = classifier._noise(images)[0, :, 0]
    found = []
    for batch in torch.arange(len(images)).split(100):
        found += [answer["scores"] for answer in fed(page, images[batch], noise[batch], False)]
    scores = torch.tensor(found, dtype=torch.float64)
    same(scores, classifier.log_likelihood(images))
    assert (scores.argmax(1).numpy() == classifier.predict(images)).mean() >= 0.999


STROKES = {
    "a seven": [[[70, 60], [210, 60], [120, 230]]],
    "small and low": [[[30, 200], [60, 200], [60, 260], [35, 260]], [[30, 230], [58, 230]]],
    "wide": [[[20, 140], [260, 150]], [[250, 90], [250, 200]]],
}


def draw(classifier: Locator, strokes: list[list[list[float]]]) -> list[float]:
    """Draw strokes one after the other; the image that the model gets."""
    classifier.evaluate("(element) => element.clear()")
    for stroke in strokes:
        for n, point in enumerate(stroke):
            classifier.evaluate("(element, [point, first]) => element.move(point, true, first)", [point, n == 0])
    return classifier.evaluate("(element) => [...element.x]")


@pytest.mark.parametrize("name", STROKES)
def test_a_drawing_is_framed_as_mnist_was(page: Page, name: str) -> None:
    """Against shares of pixels within half a pen's width of the strokes, counted on a grid 16 times as fine.

    Browsers put edges on a grid of quarter pixels; MNIST's own digits lie within half a pixel of the middle.
    """
    image = np.array(draw(brought_up(page, "digit-classifier"), STROKES[name])).reshape(28, 28)
    rows, columns = np.nonzero(image)
    assert 20 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22, "the box has 20 pixels, and may lie between two"
    for axis in (0, 1):
        assert (image.sum(1 - axis) * np.arange(28)).sum() / image.sum() == pytest.approx(14, abs=0.25)

    points = np.concatenate([np.array(stroke, float) for stroke in STROKES[name]])
    scale = (20 - 2.6) / np.ptp(points, axis=0).max()
    fine = (np.arange(28 * 16) + 0.5) / 16
    grid = np.stack(np.meshgrid(fine, fine), -1)
    centre = (points.max(0) + points.min(0)) / 2
    for _ in range(2):
        near = np.full(grid.shape[:2], np.inf)
        for stroke in STROKES[name]:
            ends = (np.array(stroke, float) - centre) * scale + 14.5
            for start, end in pairwise(ends):
                along = np.clip((grid - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
                near = np.minimum(near, np.linalg.norm(grid - start - along[..., None] * (end - start), axis=-1))
        expected = (near <= 1.3).reshape(28, 16, 28, 16).mean((1, 3))
        weights = expected / expected.sum()
        mass = np.array([(weights.sum(0) * np.arange(28)).sum(), (weights.sum(1) * np.arange(28)).sum()])
        centre = centre + (mass - 14) / scale
    assert np.abs(image - expected).max() <= 0.3
    assert np.abs(image - expected).mean() <= 0.015


def test_mnist_has_its_centre_of_mass_where_drawings_have_it() -> None:
    if dataset_name() != "mnist":
        pytest.skip("this is about MNIST, which this run has not")
    images = load("mnist", "test").images.reshape(-1, 28, 28)
    for axis in (1, 2):
        means = (images.sum(3 - axis) * torch.arange(28)).sum(1) / images.sum((1, 2))
        assert means.mean() == pytest.approx(14, abs=0.02)


def settled(classifier: Locator) -> Locator:
    """Wait until the image has been read."""
    classifier.page.wait_for_function("(e) => !e.busy && !e.question", arg=classifier.element_handle())
    return classifier


def test_the_classifier_says_what_it_computed(page: Page) -> None:
    """Bars, words and histogram, for a digit drawn and for the noise that was drawn with it."""
    classifier = brought_up(page, "digit-classifier")
    x = draw(classifier, STROKES["a seven"])
    settled(classifier)
    noise = torch.tensor(classifier.evaluate("(element) => element.draws")).double()
    model = CVAE.from_pretrained(CLASSIFIER).double()
    with torch.no_grad():
        scores = elbo(model, torch.tensor(x).double(), torch.arange(10), noise=noise.reshape(1, 1, -1))
    rows = classifier.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace('−', '-')))"
    )
    assert [row[0] for row in rows] == [str(label) for label in range(10)]
    assert [float(row[2]) for row in rows] == pytest.approx(scores.tolist(), abs=0.051)
    assert [float(row[3]) for row in rows] == pytest.approx(scores.softmax(0).tolist(), abs=0.00051)
    assert classifier.locator(".best th").inner_text() == str(scores.argmax().item()) == "7"

    evidence = scores.logsumexp(0).item() - math.log(10)
    content = exported(f"{CLASSIFIER}.histogram")
    edges = np.linspace(content["low"], content["high"], len(content["counts"]) + 1)
    share = np.interp(evidence, edges, np.cumsum([0, *content["counts"]])) / 100
    assert f"log p(x) = {evidence:.1f} nats".replace("-", "−") in classifier.locator(".unusual").inner_text()
    assert f"{share:.1f} % have less" in classifier.locator(".unusual").inner_text()
    mark, box = (classifier.locator(part).bounding_box() for part in (".histogram b", ".histogram"))
    at = (evidence - content["low"]) / (content["high"] - content["low"])
    assert mark["x"] + mark["width"] / 2 - box["x"] == pytest.approx(at * box["width"], abs=1.5)


def test_the_experiments_with_the_classifier_show_what_the_playground_says(page: Page) -> None:
    """The page makes the images; the library reads each ten times, with one draw of the noise as the page does."""
    classifier = brought_up(page, "digit-classifier")
    images = {"one": draw(classifier, [[[140, 60], [140, 230]]])}
    for name, act in (("A", "letter"), ("M", "letter"), ("noise", "noise"), ("nothing", "clear")):
        images[name] = classifier.evaluate(f"(element) => (element.{act}(), [...element.x])")
    model, x = CVAE.from_pretrained(CLASSIFIER), torch.tensor(list(images.values()))
    scores = torch.stack([GenerativeClassifier(model, seed=seed).log_likelihood(x) for seed in range(10)], 1)
    evidence = dict(zip(images, (scores.logsumexp(-1) - math.log(10)).numpy(), strict=True))
    read = dict(zip(images, scores.argmax(-1), strict=True))
    content = exported(f"{CLASSIFIER}.histogram")
    edges = np.linspace(content["low"], content["high"], len(content["counts"]) + 1)
    below = {
        name: np.interp(values, edges, np.cumsum([0, *content["counts"]])) / 100 for name, values in evidence.items()
    }
    assert (read["one"] == 1).all()
    assert below["one"].min() > 95
    assert read["A"].mode().values == 4
    assert 0.5 < np.median(below["A"]) < 2.5, "one or two in a hundred"
    assert evidence["M"].max() < content["low"]
    assert evidence["noise"].max() < content["low"] - 1000
    assert np.median(below["nothing"]) > 50
    nothing = list(images).index("nothing")
    assert scores[nothing, :, 8].max() < -1e5
    with torch.no_grad():
        assert model.encode(x[nothing], torch.tensor(8)).scale.max() > 100


def test_an_empty_page_is_read_by_the_dice_as_the_playground_says() -> None:
    """With one draw of the noise, as the page takes it, and with the exported weights; then by a search."""
    model, empty = CVAE.from_pretrained(CLASSIFIER).half().float(), torch.zeros(1, 784)
    scores = torch.cat([GenerativeClassifier(model, seed=seed).log_likelihood(empty) for seed in range(100)])
    evidence = scores.logsumexp(1) - math.log(10)
    content = exported(f"{CLASSIFIER}.histogram")
    edges = np.linspace(content["low"], content["high"], len(content["counts"]) + 1)
    below = np.interp(evidence.numpy(), edges, np.cumsum([0, *content["counts"]])) / 100
    assert np.median(below) > 50, "higher than that of most test images"
    assert evidence.std() > 5, "it jumps by ten nats and more"
    ones, fives = ((scores.argmax(1) == label).float().mean() for label in (1, 5))
    assert 0.4 < ones < 0.8
    assert 0.2 < fives < 0.5
    assert ones + fives > 0.85
    labels = torch.arange(10)
    q = search(model, empty[:, None], labels, starts=2)
    found = bounds(log_weights(model, empty[:, None], labels, 1000, q), 1000)[0, 0]
    assert found.argmax() == 1
    assert found.logsumexp(0) - math.log(10) > evidence.max() + 5, "and even more welcome"


def test_bars_stand_still_while_the_image_does(page: Page) -> None:
    """The noise of an image stays while its strokes are drawn; another image has other noise."""
    classifier = brought_up(page, "digit-classifier")
    draw(classifier, STROKES["a seven"])
    before = settled(classifier).evaluate("(element) => element.answer.scores")
    classifier.evaluate("(element) => element.ask({ x: element.x })")
    assert settled(classifier).evaluate("(element) => element.answer.scores") == before
    draw(classifier, STROKES["a seven"])
    assert settled(classifier).evaluate("(element) => element.answer.scores") != before


def test_a_sample_is_a_decoded_code_and_noise_is_any_grey(page: Page) -> None:
    classifier = brought_up(page, "digit-classifier")
    settled(classifier).evaluate(
        """(element) => {
          const { model } = element;
          element.model = (question) => model((element.asked = question));
        }"""
    )
    codes = []
    for _ in range(20):
        classifier.evaluate("(element) => element.sample()")
        z, (y,) = settled(classifier).evaluate("(element) => element.asked.sample")
        assert classifier.locator(".seen span").inner_text() == f"A sample under label {y}"
        same(classifier.evaluate("(element) => [...element.x]"), decoded(CLASSIFIER, z, torch.tensor(y)))
        codes.append((*z, y))
    *z, y = np.array(codes).T
    assert len(set(y)) > 4
    assert 0.9 < np.std(z) < 1.1
    classifier.get_by_role("button", name="noise").click()
    grey = np.array(settled(classifier).evaluate("(element) => [...element.x]"))
    assert grey.mean() == pytest.approx(0.5, abs=0.06)
    assert grey.std() == pytest.approx(12**-0.5, abs=0.04)
    assert "0.0 % have less" in classifier.locator(".unusual").inner_text()


def test_another_model_can_be_chosen(browser: Browser, served: str) -> None:  # noqa: F811
    """First an untrained one in place of what the page runs; then the one with a plane, which shows its posteriors."""
    torch.manual_seed(0)
    model = CVAE(784, (512, 512), 50, 10, activation="silu").half().float()
    parts = {part: network(getattr(model, part).body) for part in ("encoder", "decoder")}
    parts["histogram"] = {"images": 3, "low": -600, "high": -500, "counts": [1, 2]}
    page, complaints = opened(browser, served + PLAYGROUND, served, DESK)
    for part, content in parts.items():
        body = f'explorer.deliver("untrained.{part}", {json.dumps({"sha256": 64 * "0", **content})});'
        page.route(f"**/untrained.{part}.js", functools.partial(Route.fulfill, body=body))
    page.evaluate(
        """() => {
          const other = document.createElement("digit-classifier");
          other.setAttribute("weights", "untrained");
          document.querySelector("digit-classifier").replaceWith(other);
        }"""
    )
    classifier = settled(brought_up(page, "digit-classifier"))
    x, noise = decoded("cvae-2d", (0.3, -1.1), torch.tensor(8))[None], torch.randn(1, 50).double()
    (answer,) = fed(page, x, noise)
    with torch.no_grad():
        same(answer["scores"], elbo(model.double(), x, torch.arange(10), noise=noise[None]))
    assert "Uses untrained" in classifier.locator(".source").inner_text()
    assert classifier.locator(".plane").is_hidden()

    draw(classifier, STROKES["a seven"])
    image = classifier.evaluate("(element) => [...element.x]")
    tab_to(page, classifier.get_by_label("Weights"))
    page.keyboard.press("ArrowDown")
    classifier.locator(".source", has_text="Uses cvae-2d").wait_for()
    assert settled(classifier).evaluate("(element) => [...element.x]") == image
    assert classifier.locator(".plane").is_visible()
    assert classifier.locator(".best th").inner_text() == "7"

    with torch.no_grad():
        posterior = CVAE.from_pretrained("cvae-2d").double().encode(torch.tensor(image).double(), torch.arange(10))
    drawn = classifier.locator(".codes g")
    assert [text.strip() for text in drawn.all_text_contents()] == [str(label) for label in range(10)]
    radii = drawn.locator("ellipse").evaluate_all("(all) => all.map((e) => [e.rx, e.ry].map((r) => r.baseVal.value))")
    same(radii, 200 * posterior.scale, 1e-3)
    moves = drawn.evaluate_all(
        "(all) => all.map((g) => g.getAttribute('transform').slice(10, -1).split(' ').map(Number))"
    )
    same(moves, posterior.loc * torch.tensor([100, -100]))
    assert not complaints
    page.close()


@pytest.mark.parametrize(
    "numbers",
    [(0, 1, 3, 2, 1), (0.5, 0.6, 3, 2, 1), (-4, 2.5, 5, 3, 0.5), (1.3, 0.1, -3, 0.5, 2), (0.8, 0.45, 3, 2, 1)],
)
def test_the_laboratory_is_exact(page: Page, numbers: tuple[float, ...]) -> None:
    """Against torch: (1.3), (1.4), (1.10) and (1.11), with b = 1. Bars and words say the same."""
    mu, sigma, x, w, s = torch.tensor(numbers, dtype=torch.float64)
    q, posterior = Normal(mu, sigma), Normal(w * (x - 1) / (w**2 + s**2), s / (w**2 + s**2).sqrt())
    log_evidence = Normal(torch.ones_like(x), (w**2 + s**2).sqrt()).log_prob(x)
    kl = kl_divergence(q, Normal(torch.zeros_like(x), torch.ones_like(x)))
    gap = kl_divergence(q, posterior)
    expected = {
        "posteriorMean": posterior.mean,
        "posteriorSigma": posterior.stddev,
        "logEvidence": log_evidence,
        "elbo": log_evidence - gap,
        "gap": gap,
        "reconstruction": log_evidence - gap + kl,
        "kl": kl,
    }
    lab = page.locator("elbo-lab")
    lab.evaluate(
        "(element, state) => element.set(state)", dict(zip(("mu", "sigma", "x", "w", "s"), numbers, strict=True))
    )
    found = lab.evaluate("(element) => element.values")
    assert found.keys() == expected.keys()
    same([found[name] for name in expected], [value.item() for value in expected.values()], 1e-9)

    said = [float(text.replace("−", "-")) for text in lab.locator(".bar b").all_inner_texts()]
    names = ("logEvidence", "elbo", "gap", "reconstruction", "kl")
    assert said == pytest.approx([expected[name].item() for name in names], abs=0.00501)
    ends = lab.evaluate(
        "(element) => [...element.querySelectorAll('.bar i')].map((i) => i.getBoundingClientRect().right)"
    )
    assert ends[2] == pytest.approx(ends[0], abs=0.5), "bound and gap end where log p(x) ends"


# ---- Fetching ----


def fetched(page: Page) -> list[str]:
    return page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name.split('/weights/')[1])")


@pytest.mark.parametrize("tag", RUN)
def test_nothing_is_fetched_before_an_element_is_in_view_and_nothing_twice(
    browser: Browser,  # noqa: F811
    served: str,  # noqa: F811
    tag: str,
) -> None:
    page, complaints = opened(browser, served + PLAYGROUND, served, PHONE)
    asked: list[str] = []
    page.on("request", lambda request: "/weights/" in request.url and asked.append(request.url.split("/weights/")[1]))
    page.wait_for_load_state("networkidle")
    assert page.evaluate("customElements.get('vae-plane') !== undefined")
    assert not asked
    assert not any(fetched(page))
    brought_up(page, tag)
    mine = sorted(f"{RUN[tag]}.{part}.js" for part in FETCHED[tag])
    page.evaluate("(tag) => document.querySelector('article h1').after(document.createElement(tag))", tag)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"(tag) => [...document.querySelectorAll(tag)].every({READY})", arg=tag)
    brought_up(page, tag)
    assert sorted(file for file in asked if file in mine) == mine
    assert not complaints
    page.close()


def test_weights_that_do_not_arrive_are_reported_in_the_element(browser: Browser, served: str) -> None:  # noqa: F811
    page, _ = opened(browser, served + PLAYGROUND, served, DESK)
    page.route("**/weights/*", lambda route: route.abort())
    plane = page.locator("vae-plane")
    plane.scroll_into_view_if_needed()
    plane.locator(".source", has_text="cannot run").wait_for()
    page.close()


# ---- Everyone, everywhere ----


def test_the_elements_work_from_a_file_and_from_a_server(browser: Browser, address: str) -> None:  # noqa: F811
    page, complaints = opened(browser, address + PLAYGROUND, address, DESK)
    for tag in ELEMENTS:
        brought_up(page, tag)
    assert page.workers, "the classifier runs where it does not hold up the pen"
    for tag, name in RUN.items():
        digest = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
        assert f"{name}, 16-bit weights, SHA-256 {digest[:12]}" in page.locator(tag).inner_text()
    assert not complaints
    page.close()


def test_elements_stand_below_their_figures_and_nobody_else_loads_their_scripts(
    browser: Browser,  # noqa: F811
    built_book: Book,
) -> None:
    below = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["explorer_below"]
    content = {name: (built_book.html / name).read_text(encoding="utf-8") for name in pages()}
    for name, text in content.items():
        assert ("explorer/engine.js" in text) == any(f"<{tag}" in text for tag in ELEMENTS), name
    home = built_book.html.as_uri() + "/"
    for figure, tag in below.items():
        chapters = [name for name, text in content.items() if f'id="{figure}"' in text]
        assert len(chapters) == 1, f"_config.yml puts an element below {figure}, which is in {chapters}"
        page, complaints = opened(browser, home + chapters[0], home, PHONE)
        element = brought_up(page, tag.split()[0])
        assert element.evaluate(
            "(element, id) => element.previousElementSibling.querySelector('#' + id) !== null", figure
        )
        assert sideways(page) <= 0
        assert not complaints
        page.close()


def test_without_scripts_there_is_a_text(browser: Browser, built_book: Book) -> None:  # noqa: F811
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built_book.html / PLAYGROUND).as_uri())
    for tag in ELEMENTS:
        assert len(page.locator(tag).inner_text()) > 150
    context.close()


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until target has the focus; it must show that it has."""
    page.evaluate("document.querySelector('article h1').setAttribute('tabindex', -1)")
    page.locator("article h1").focus()
    for _ in range(120):
        page.keyboard.press("Tab")
        if target.evaluate("(part) => part === document.activeElement"):
            break
    else:
        pytest.fail(f"Tab does not reach {target}")
    outline = "(part) => getComputedStyle(part.matches('.dial input') ? part.parentNode : part).outlineStyle"
    assert target.evaluate(outline) != "none", "one does not see that it has the focus"


@pytest.mark.parametrize("tag", PLANES)
def test_a_plane_can_be_walked_with_the_keyboard(page: Page, tag: str) -> None:
    plane = brought_up(page, tag)
    tab_to(page, plane.locator(".plane"))
    before = plane.evaluate("(element) => [...element.means]")
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "Shift+ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert where(plane) == pytest.approx([-0.4, 0.1])
    assert plane.evaluate("(element) => [...element.means]") != before
    page.keyboard.press("Enter")
    assert "Code of a" in plane.inner_text()
    spoken = plane.locator("[role=status]")
    plane.locator("[role=status]", has_text="Code of a").wait_for(state="attached")
    page.keyboard.press("Home")
    assert where(plane) == [0, 0]
    plane.locator("[role=status]", has_text="z (0.00, 0.00)").wait_for(state="attached")
    assert "Code of a" not in spoken.inner_text()
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
    assert where(plane) == [4.4, 0], "the plane has an edge"


def test_the_replay_plays_when_asked_and_stops_where_something_was_stored(page: Page) -> None:
    replay = brought_up(page, "training-replay")
    button = replay.get_by_role("button")
    page.wait_for_timeout(500)
    assert replay.evaluate("(element) => element.time") == 0, "nothing moves by itself"
    tab_to(page, button)
    page.keyboard.press("Enter")
    assert button.inner_text() == "Pause"
    page.wait_for_function("document.querySelector('training-replay').time % 1 > 0.1")
    page.wait_for_function("document.querySelector('training-replay').time > 1.1")
    page.keyboard.press("Space")
    assert button.inner_text() == "Play"
    epoch = replay.evaluate("(element) => element.time")
    assert epoch >= 1
    assert epoch % 1 == 0
    replay.locator("[role=status]", has_text=f"Epoch {epoch} of 15, loss 1").wait_for(state="attached")
    moving = places(replay)
    page.wait_for_timeout(300)
    assert np.array_equal(places(replay), moving)
    replay.evaluate("(element) => element.go(14.5)")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('training-replay button').textContent === 'Play'")
    assert replay.evaluate("(element) => element.time") == 15
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('training-replay').time < 14")


def test_the_slider_of_the_replay_works_with_the_keyboard(page: Page) -> None:
    replay = brought_up(page, "training-replay")
    slider = replay.get_by_role("slider", name="Epoch")
    tab_to(page, slider)
    for key in ("End", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert replay.evaluate("(element) => element.time") == 13
    assert (
        slider.get_attribute("aria-valuetext") == f"Epoch {replay.locator('dd').first.inner_text()}, loss 143.09 nats"
    )


def test_the_replay_steps_for_readers_who_prefer_reduced_motion(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    replay = brought_up(page, "training-replay")
    stored = load_file(WEIGHTS / "vae-2d" / "snapshots.safetensors")["means"].double().numpy()
    replay.get_by_role("button").click()
    seen = set()
    while (time := replay.evaluate("(element) => element.time")) < 2:
        shown = places(replay)
        epochs = [epoch for epoch in range(4) if np.allclose(shown, stored[epoch], atol=1e-6)]
        assert epochs, f"at {time} the digits are on their way"
        seen.update(epochs)
    assert {0, 1} <= seen
    page.emulate_media(reduced_motion="no-preference")


def test_a_digit_can_be_drawn_with_the_keyboard(page: Page) -> None:
    classifier = brought_up(page, "digit-classifier")
    tab_to(page, classifier.locator(".pad"))
    assert classifier.locator(".pad i").is_visible()
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    assert classifier.evaluate("(element) => element.strokes") == [[[140, 70 + 7 * n] for n in range(21)]]
    classifier.locator("[role=status]", has_text="Drawn by you, read as 1").wait_for(state="attached")
    page.keyboard.press("Space")
    classifier.locator("[role=status]", has_text="Pen up").wait_for(state="attached")
    page.keyboard.press("ArrowLeft")
    assert len(classifier.evaluate("(element) => element.strokes")) == 1
    assert classifier.locator(".best th").inner_text() == "1"
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    assert classifier.evaluate("(element) => element.pen") == [280, 210], "the pad has an edge"
    page.keyboard.press("Delete")
    assert not any(settled(classifier).evaluate("(element) => [...element.x]"))
    classifier.locator("[role=status]", has_text="An empty image, read as").wait_for(state="attached")


def test_images_from_elsewhere_are_a_key_away(page: Page) -> None:
    classifier = settled(brought_up(page, "digit-classifier"))
    for name, about in (("sample", "A sample"), ("letter", "The letter A"), ("noise", "Noise"), ("clear", "An empty")):
        tab_to(page, classifier.get_by_role("button", name=name))
        page.keyboard.press("Enter")
        classifier.locator("[role=status]", has_text=about).wait_for(state="attached")
        assert classifier.locator(".seen span").inner_text().startswith(about)


def test_the_label_dial_turns_with_the_keyboard(page: Page) -> None:
    plane = brought_up(page, "cvae-plane")
    tab_to(page, plane.locator("[value='4']"))
    page.keyboard.press("ArrowRight")
    assert plane.evaluate("(element) => element.label") == 5
    same(plane.evaluate("(element) => [...element.means]"), decoded("cvae-2d", (0, 0), torch.tensor(5)))
    assert set(plane.locator(".codes").text_content()) == {"5"}
    assert plane.get_by_role("radio", name="5").is_checked()


def test_the_laboratory_can_be_worked_with_the_keyboard(page: Page) -> None:
    lab = brought_up(page, "elbo-lab")
    slider = lab.get_by_label("width σ of q")
    tab_to(page, slider)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "0.97"
    lab.locator("[role=status]", has_text="ELBO").wait_for(state="attached")
    button = lab.get_by_role("button", name="Start again")
    tab_to(page, button)
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('elbo-lab [name=sigma]').value === '1'")
    lab.locator(".bars", has_text="4.92").wait_for()  # drawn in the frame after


def test_nothing_is_announced_while_the_reader_is_elsewhere(page: Page) -> None:
    for tag in ELEMENTS:
        brought_up(page, tag)
    page.wait_for_timeout(1000)
    assert (
        page.evaluate("[...document.querySelectorAll('[role=status]')].map((part) => part.textContent).join('')") == ""
    )


def touch(page: Page, *path: tuple[float, float]) -> None:
    """A finger on the screen along a path."""
    session = page.context.new_cdp_session(page)
    for kind, points in [("Start", path[:1]), *(("Move", [point]) for point in path[1:]), ("End", [])]:
        positions = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": positions})
    session.detach()


@pytest.fixture
def phone(browser: Browser, built_book: Book) -> Iterator[Page]:  # noqa: F811
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto((built_book.html / PLAYGROUND).as_uri())
    yield page
    context.close()


@pytest.mark.parametrize("tag", PLANES)
def test_a_plane_follows_a_finger(phone: Page, tag: str) -> None:
    plane = brought_up(phone, tag)
    plane.locator(".plane").scroll_into_view_if_needed()
    scrolled = phone.evaluate("scrollY")
    touch(phone, at_point(plane, (-2, 2)), at_point(plane, (0, 1)), at_point(plane, (1.5, -1)))
    assert where(plane) == pytest.approx([1.5, -1], abs=0.03)
    assert phone.evaluate("scrollY") == scrolled, "the page moves under the finger"
    assert "Code of a" not in plane.inner_text()
    code = plane.evaluate("(element) => element.shown()[3].mean")
    phone.touchscreen.tap(*at_point(plane, code))
    assert "Code of a" in plane.inner_text()
    assert where(plane) == pytest.approx(code, abs=0.25)
    if tag == "cvae-plane":
        plane.get_by_role("radio", name="7").tap()
        assert plane.evaluate("(element) => element.label") == 7


def test_q_follows_a_finger(phone: Page) -> None:
    lab = brought_up(phone, "elbo-lab")
    lab.locator(".lab").scroll_into_view_if_needed()
    handle, posterior = (lab.locator(part).bounding_box() for part in ("circle.q", "path.posterior"))
    start = (handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    width = lab.locator(".lab").bounding_box()["width"]
    top_of_posterior = (start[0] + 0.8 * width / 9.2, posterior["y"])
    touch(phone, start, top_of_posterior)
    assert float(lab.locator("[name=mu]").input_value()) == pytest.approx(0.8, abs=0.03)
    assert float(lab.locator("[name=sigma]").input_value()) == pytest.approx(0.447, abs=0.02)
    assert lab.evaluate("(element) => element.values.gap") < 0.01


def test_a_finger_draws_a_digit(phone: Page) -> None:
    classifier = settled(brought_up(phone, "digit-classifier"))
    classifier.locator(".pad").scroll_into_view_if_needed()
    scrolled = phone.evaluate("scrollY")
    box = classifier.locator(".pad").bounding_box()
    for stroke in ([(80, 60), (200, 60), (160, 140), (120, 230)], [(110, 150), (200, 150)]):
        touch(phone, *((box["x"] + x, box["y"] + y) for x, y in stroke))
    strokes = classifier.evaluate("(element) => element.strokes")
    assert [len(stroke) for stroke in strokes] == [4, 2]
    assert np.array(strokes[1]) == pytest.approx(np.array([(110, 150), (200, 150)]), abs=1)
    assert phone.evaluate("scrollY") == scrolled, "the page moves under the finger"
    assert settled(classifier).locator(".best th").inner_text() == "7"
    classifier.get_by_role("button", name="letter").click()  # a tap on a plain button is the browser's business
    classifier.locator(".seen", has_text="The letter A").wait_for()


def test_the_replay_follows_a_finger(phone: Page) -> None:
    replay = brought_up(phone, "training-replay")
    slider = replay.get_by_role("slider")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    phone.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert replay.evaluate("(element) => element.time") in (7, 8)
    replay.get_by_role("button", name="Play").tap()
    phone.wait_for_function("document.querySelector('training-replay').time > 8.2")
    replay.get_by_role("button", name="Pause").tap()
    assert replay.evaluate("(element) => element.time % 1") == 0


@pytest.mark.parametrize("tag", RUN)
def test_what_one_touches_is_large_enough(phone: Page, tag: str) -> None:
    """24 by 24 pixels at least (WCAG 2.2, 2.5.8)."""
    element = brought_up(phone, tag)
    for target in element.locator("button, select, input[type=range], .dial label").all():
        if target.is_visible():
            box = target.bounding_box()
            assert min(box["width"], box["height"]) >= 24, target.evaluate("(part) => part.outerHTML.slice(0, 80)")


@pytest.mark.parametrize("tag", ELEMENTS)
def test_an_element_fits_after_the_window_is_resized(page: Page, tag: str) -> None:
    element = brought_up(page, tag)
    page.set_viewport_size(PHONE)
    element.scroll_into_view_if_needed()
    assert sideways(page) <= 0
    over = element.evaluate(
        """(element) => [...element.querySelectorAll("*")]
          .filter((part) => part.getBoundingClientRect().right > innerWidth && !part.closest("svg"))
          .map((part) => part.outerHTML.slice(0, 80))"""
    )
    assert not over
    if tag in PLANES:
        element.locator(".plane").scroll_into_view_if_needed()
        page.mouse.click(*at_point(element, (-4, 4)))
        assert where(element) == pytest.approx([-4, 4], abs=0.03)
    elif tag in RUN:
        if tag == "digit-classifier":
            element.get_by_label("Weights").select_option(PLANES["cvae-plane"])
        element.locator(".plane").wait_for()
        drawn, plane = (element.locator(part).bounding_box()["width"] for part in (".frame", ".plane"))
        assert 0.9 * plane < drawn < plane <= 320
    else:
        drawn = element.locator("path.frame").bounding_box()["width"]
        assert drawn == pytest.approx(element.locator(".lab").bounding_box()["width"], abs=3)


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_in_the_elements(page: Page, viewport: dict[str, int]) -> None:
    page.set_viewport_size(viewport)
    for tag in ELEMENTS:
        brought_up(page, tag)
    # Of a thousand digits in a drawing, a few are enough.
    page.evaluate("document.querySelectorAll('.codes text:nth-child(n + 10)').forEach((digit) => digit.remove())")
    for scheme, options in (("light", AXE), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        for tag in ELEMENTS:
            faults = Axe().run(page, context=tag, options=options).response["violations"]
            assert not faults, f"{tag}: {[(fault['help'], fault['nodes'][0]['html'][:160]) for fault in faults]}"


def test_the_digits_of_the_plane_can_be_read_in_light_and_dark(page: Page) -> None:
    """Axe does not judge text in a drawing: every digit has a contrast of 4.5 to the page."""
    brought_up(page, "vae-plane")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        colours = page.evaluate(
            """() => {
              const context = document.createElement("canvas").getContext("2d");
              const rgb = (colour) => {
                context.fillStyle = colour;
                context.fillRect(0, 0, 1, 1);
                return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
              };
              const digits = [...document.querySelectorAll("vae-plane .codes text")];
              const fills = new Set(digits.map((digit) => getComputedStyle(digit).fill));
              return [getComputedStyle(document.body).backgroundColor, ...fills].map(rgb);
            }"""
        )
        channels = np.array(colours) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        ground, *digits = linear @ (0.2126, 0.7152, 0.0722) + 0.05
        assert len(digits) == 10
        assert min(max(digit, ground) / min(digit, ground) for digit in digits) >= 4.5


def test_nothing_moves_by_itself(page: Page) -> None:
    """So there is nothing to hold still for readers who prefer reduced motion."""
    for tag in ELEMENTS:
        brought_up(page, tag)
    page.locator("cvae-plane .dial label").first.click()
    targets = page.evaluate(
        "document.getAnimations().map(({ effect }) => effect.target.closest('.sides, .bars, .lab'))"
    )
    assert not any(targets)


def test_base64_halves_puts_tensors_one_after_the_other() -> None:
    found = base64.b64decode(base64_halves(torch.tensor([[1.0, 2.0]]), torch.tensor([-0.5])))
    assert found == b"\x00\x3c\x00\x40\x00\xb8"
