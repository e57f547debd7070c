"""The replay of a training, `training-replay`: it shows what was stored, and moves when asked."""

import re

import numpy as np
import pytest
from live import brought_up, exported, tab_to
from playwright.sync_api import Locator, Page
from safetensors.torch import load_file

from cvae_lib import load
from cvae_lib.course import dataset_name
from cvae_lib.pretrained import WEIGHTS


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
