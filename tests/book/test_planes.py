"""The planes of `vae-plane` and `cvae-plane`: they decode what Python decodes, by pointer, finger and key."""

import math

import numpy as np
import pytest
import torch
from live import PLANES, at_point, brought_up, decoded, exported, numbers, same, tab_to, touch, where
from playwright.sync_api import Page
from torch.distributions import Normal, kl_divergence

POINTS = [(0.0, 0.0), (0.5, -1.25), (-2.1, 0.7), (4.4, -4.4)]


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
