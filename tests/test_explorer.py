"""The live elements of the pages compute what Python computes, and can be used by everyone everywhere."""

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from axe_playwright_python.sync_playwright import Axe
from book_fixture import ROOT, Book, _built_book, pages  # noqa: F401  (the fixture built_book)
from playwright.sync_api import Browser, Locator, Page
from test_browser import AXE, COLOURS, DESK, PHONE, browser, opened, served, sideways  # noqa: F401  (fixtures)
from torch.distributions import Bernoulli, Normal, kl_divergence

from cvae_lib import CVAE, dataset_name, load
from cvae_lib.export import EXPORTED, NUM_CODES, base64_halves, codes, export, network
from cvae_lib.model import WEIGHTS
from cvae_lib.networks import MLP

EXPLORER = ROOT / "book" / "_static" / "explorer"
PLAYGROUND = "book/playground.html"
PLANES = {"vae-plane": "vae-2d", "cvae-plane": "cvae-2d"}
ELEMENTS = ["elbo-lab", *PLANES]
POINTS = [(0.0, 0.0), (0.5, -1.25), (-2.1, 0.7), (4.4, -4.4)]


def exported(name: str) -> dict[str, Any]:
    """What a script file delivers."""
    call = re.fullmatch(r'explorer\.deliver\("(.*?)", (.*)\);\n', (EXPLORER / "weights" / f"{name}.js").read_text())
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
    if tag in PLANES:
        page.wait_for_function("(element) => element.means", arg=element.element_handle())
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


@pytest.mark.parametrize("name", EXPORTED)
def test_the_pages_run_the_weights_of_the_library(name: str) -> None:
    model = CVAE.from_pretrained(name)
    digest = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    for part in (*EXPORTED[name], "codes"):
        content = exported(f"{name}.{part}")
        assert (content.pop("weights"), content.pop("sha256")) == (name, digest), "run `make weights` or its last step"
        if part != "codes":
            assert content == network(getattr(model, part).body)


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_holds_its_numbers_layer_by_layer(name: str) -> None:
    """Read back without the exporting code, as the page does."""
    content, state = exported(f"{name}.decoder"), CVAE.from_pretrained(name).decoder.body.state_dict()
    found, at = numbers(content), 0
    for key in [key for key in state if key.endswith("weight") and key != "label_bias.weight"]:
        bias = state["label_bias.weight" if key == "first.weight" and content["labels"] else key[:-6] + "bias"]
        for tensor in (state[key].T, bias):
            assert np.array_equal(found[at : at + tensor.numel()], tensor.flatten().half().numpy())
            at += tensor.numel()
    assert at == len(found)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_codes_are_those_of_the_first_test_images(name: str, tmp_path: Path) -> None:
    if dataset_name() != "mnist":
        pytest.skip("the codes are of MNIST, which this run has not")
    images, labels = (part[:NUM_CODES] for part in load("mnist", "test"))
    content, fresh = exported(f"{name}.codes"), codes(CVAE.from_pretrained(name), images, labels)
    assert content["labels"] == fresh["labels"]
    np.testing.assert_allclose(numbers(content).astype(float), numbers(fresh).astype(float), rtol=2e-3, atol=1e-3)
    export(name, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{part}.js" for part in (*EXPORTED[name], "codes")}


def test_scripts_and_what_an_element_fetches_stay_small() -> None:
    assert sum(path.stat().st_size for path in EXPLORER.glob("*.js")) <= 40_000
    for name in PLANES.values():
        files = (EXPLORER / "weights" / f"{name}.{part}.js" for part in ("decoder", "codes"))
        assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= 1.3e6


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


@pytest.mark.parametrize("tag", PLANES)
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
    mine = sorted(f"{PLANES[tag]}.{part}.js" for part in ("decoder", "codes"))
    page.evaluate("(tag) => document.querySelector('article h1').after(document.createElement(tag))", tag)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("(tag) => [...document.querySelectorAll(tag)].every((element) => element.means)", arg=tag)
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
    for tag, name in PLANES.items():
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
        assert ("explorer/engine.js" in text) == any(f"<{tag}>" in text for tag in ELEMENTS), name
    home = built_book.html.as_uri() + "/"
    for figure, tag in below.items():
        chapters = [name for name, text in content.items() if f'id="{figure}"' in text]
        assert len(chapters) == 1, f"_config.yml puts an element below {figure}, which is in {chapters}"
        page, complaints = opened(browser, home + chapters[0], home, PHONE)
        element = brought_up(page, tag)
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
    for _ in range(60):
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
    assert "4.92" in lab.locator(".bars").inner_text()


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
