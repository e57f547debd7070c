"""The classifier of drawn digits, `digit-classifier`: it frames, scores and says what Python computes."""

import functools
import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from built import DESK, opened
from live import CLASSIFIER, PLAYGROUND, brought_up, decoded, draw, exported, same, tab_to, touch
from playwright.sync_api import Browser, Locator, Page, Route

from cvae_lib import CVAE, GenerativeClassifier, elbo, load
from cvae_lib.course import dataset_name
from cvae_lib.course.export import network
from cvae_lib.scores import noise_of

STROKES = {
    "a seven": [[[70, 60], [210, 60], [120, 230]]],
    "small and low": [[[30, 200], [60, 200], [60, 260], [35, 260]], [[30, 230], [58, 230]]],
    "wide": [[[20, 140], [260, 150]], [[250, 90], [250, 200]]],
}


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


def settled(classifier: Locator) -> Locator:
    """Wait until the image has been read."""
    classifier.page.wait_for_function("(e) => !e.busy && !e.question", arg=classifier.element_handle())
    return classifier


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
    noise = noise_of(images, 1, classifier.model_.latent_dim)[0, :, 0]
    found = []
    for batch in torch.arange(len(images)).split(100):
        found += [answer["scores"] for answer in fed(page, images[batch], noise[batch], False)]
    scores = torch.tensor(found, dtype=torch.float64)
    same(scores, classifier.log_likelihood(images))
    assert (scores.argmax(1).numpy() == classifier.predict(images)).mean() >= 0.999


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


def test_another_model_can_be_chosen(browser: Browser, served: str) -> None:
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
