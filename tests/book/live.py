"""The live elements of the pages: which there are, what they run, and how a test gets hold of one."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from built import ROOT
from playwright.sync_api import Locator, Page

from cvae_lib import CVAE

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
READY = "(element) => element.means ?? element.answer"
ELEMENTS = ["elbo-lab", *RUN]


def exported(name: str, folder: Path = EXPLORER / "weights") -> dict[str, Any]:
    """What a script file delivers."""
    call = re.fullmatch(r'explorer\.deliver\("(.*?)", (.*)\);\n', (folder / f"{name}.js").read_text())
    assert call, f"{name}.js is no call of explorer.deliver"
    assert call[1] == name
    return json.loads(call[2])


def numbers(content: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(content["numbers"]), "<f2")


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


def draw(classifier: Locator, strokes: list[list[list[float]]]) -> list[float]:
    """Draw strokes one after the other; the image that the model gets."""
    classifier.evaluate("(element) => element.clear()")
    for stroke in strokes:
        for n, point in enumerate(stroke):
            classifier.evaluate("(element, [point, first]) => element.move(point, true, first)", [point, n == 0])
    return classifier.evaluate("(element) => [...element.x]")


def decoded(name: str, z: tuple[float, float] | list[float], y: torch.Tensor | None = None) -> torch.Tensor:
    """Means of the pixels by the library, in double precision from the same 16-bit weights."""
    model = CVAE.from_pretrained(name).double()
    with torch.no_grad():
        return model.decode(torch.tensor(z, dtype=torch.float64), y).mean


def same(found: object, expected: object, tolerance: float = 1e-4) -> None:
    found, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (found, expected))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)


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


def touch(page: Page, *path: tuple[float, float]) -> None:
    """A finger on the screen along a path."""
    session = page.context.new_cdp_session(page)
    for kind, points in [("Start", path[:1]), *(("Move", [point]) for point in path[1:]), ("End", [])]:
        positions = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": positions})
    session.detach()
