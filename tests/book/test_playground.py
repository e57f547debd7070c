"""The page of the playground: what it claims, and what is there from a file, without scripts, and in the chapters."""

import hashlib
import math

import numpy as np
import torch
import yaml
from built import DESK, PHONE, ROOT, Book, opened, pages, sideways
from live import CLASSIFIER, ELEMENTS, PLAYGROUND, RUN, brought_up, draw, exported
from playwright.sync_api import Browser, Page

from cvae_lib import CVAE, GenerativeClassifier
from cvae_lib.course.experiments.empty_page import bounds, log_weights, search
from cvae_lib.pretrained import WEIGHTS


def test_the_experiments_with_the_classifier_show_what_the_playground_says(page: Page) -> None:
    """The page makes the images; the library reads each ten times, with one draw of the noise as the page does."""
    classifier = brought_up(page, "digit-classifier")
    images = {"one": draw(classifier, [[[140, 60], [140, 230]]])}
    for name, act in (("A", "letter"), ("M", "letter"), ("noise", "noise"), ("nothing", "clear")):
        images[name] = classifier.evaluate(f"(element) => (element.{act}(), [...element.x])")
    model, x = CVAE.from_pretrained(CLASSIFIER), torch.tensor(list(images.values()))
    scores = torch.stack([GenerativeClassifier(model, random_state=seed).log_likelihood(x) for seed in range(10)], 1)
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
    rolls = [GenerativeClassifier(model, random_state=seed).log_likelihood(empty) for seed in range(100)]
    scores = torch.cat(rolls)
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


def test_the_elements_work_from_a_file_and_from_a_server(browser: Browser, address: str) -> None:
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
    browser: Browser,
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


def test_without_scripts_there_is_a_text(browser: Browser, built_book: Book) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built_book.html / PLAYGROUND).as_uri())
    for tag in ELEMENTS:
        assert len(page.locator(tag).inner_text()) > 150
    context.close()
