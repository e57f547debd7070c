"""Milliseconds that the live elements of the pages take, in Chromium.

    python benchmarks/explorer.py [--moves N]

The planes: the mouse is dragged over each, on a page of its own. The clock runs from the moment the page gets the event
until the pixels of every picture have been read back: one picture for the VAE, eleven for the CVAE (the digit, and the
ten labels side by side). The limit is 4 ms for the median.

The classifier: a spiral is drawn with the mouse. One clock runs from the event until the answer for that image is on
the screen, Worker and waiting included; the limit is 50 ms for the median. The other clock runs until the page is done
with the event and can take the next one: that is how long the pen is held up.
"""

import argparse
import math
import shutil
import tempfile
from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import Browser, Page, sync_playwright

EXPLORER = Path(__file__).parents[1] / "book" / "_static" / "explorer"
PLANES = ("vae-plane", "cvae-plane")
LIMIT = 4.0
ANSWER_LIMIT = 50.0
FRAME = 16.0  # at 60 pictures a second
ANSWER_CLOCK = """(element) => {
  window.held = [];
  window.answered = [];
  let start;
  const { show } = element;
  let latest; // when the image arrived that is read now
  element.show = (answer) => {
    show.call(element, answer);
    answered.push(performance.now() - latest);
  };
  const { model } = element;
  element.model = (question) => {
    latest = start;
    return model(question);
  };
  window.addEventListener("pointermove", () => (start = performance.now()), true);
  window.addEventListener("pointermove", () => held.push(performance.now() - start));
}"""
CLOCK = """(element) => {
  const pictures = [...element.querySelectorAll("canvas")].map((canvas) => canvas.getContext("2d"));
  let start;
  window.took = [];
  window.addEventListener("pointermove", () => (start = performance.now()), true);
  window.addEventListener("pointermove", () => {
    pictures.forEach((picture) => picture.getImageData(14, 14, 1, 1));
    took.push(performance.now() - start);
  });
}"""


def opened(browser: Browser, folder: Path, tag: str, script: str) -> Page:
    """A page with one element, and what it needs."""
    scripts = "".join(
        f'<script src="{(EXPLORER / f"{name}.js").as_uri()}" defer></script>' for name in ("engine", script)
    )
    style = f'<link rel="stylesheet" href="{(EXPLORER / "explorer.css").as_uri()}">'
    file = folder / f"{tag}.html"
    file.write_text(f"<!doctype html><meta charset='utf-8'>{style}{scripts}<{tag}></{tag}>", encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.goto(file.as_uri())
    return page


def drag(page: Page, tag: str, moves: int) -> list[float]:
    """Drag along a spiral over the plane; milliseconds for each move."""
    page.wait_for_function("(tag) => document.querySelector(tag).means", arg=tag)
    page.locator(tag).evaluate(CLOCK)
    box = page.locator(f"{tag} .plane").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("took.length = 0")
    for step in range(moves):
        angle, radius = step / 9, box["width"] * (0.05 + 0.3 * step / moves)
        page.mouse.move(
            box["x"] + box["width"] / 2 + radius * math.cos(angle),
            box["y"] + box["height"] / 2 + radius * math.sin(angle),
        )
    page.mouse.up()
    return page.evaluate("took")  # type: ignore[no-any-return]


def draw(page: Page, moves: int) -> tuple[list[float], list[float]]:
    """Draw a spiral; milliseconds until an answer is shown, and milliseconds for which the pen is held up."""
    page.wait_for_function("document.querySelector('digit-classifier').answer")
    page.locator("digit-classifier").evaluate(ANSWER_CLOCK)
    box = page.locator("digit-classifier .pad").bounding_box()
    assert box
    page.mouse.move(box["x"] + 140, box["y"] + 140)
    page.mouse.down()
    for step in range(moves):
        angle, radius = step / 9, 10 + 110 * step / moves
        page.mouse.move(box["x"] + 140 + radius * math.cos(angle), box["y"] + 140 + radius * math.sin(angle))
    page.mouse.up()
    page.wait_for_function("!document.querySelector('digit-classifier').busy")
    answered, held = page.evaluate("[answered, held]")
    return answered, held


def report(name: str, took: list[float], limit: float) -> None:
    """A line of the table."""
    verdict = "kept" if median(took) <= limit else "missed"
    print(f"{name:22}{median(took):10.2f}{quantiles(took, n=20)[-1]:12.2f}{limit:8g}   {verdict}, {len(took)} times")


def main(moves: int) -> None:
    """Measure planes and classifier, and print the table."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("No chromium on this machine: nothing measured.")
        return
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        print(f"Chromium {browser.version}, {moves} moves in each element\n")
        print(f"{'':22}{'median ms':>10}{'95 % below':>12}{'limit':>8}   for the median")
        for tag in PLANES:
            page = opened(browser, Path(folder), tag, "plane")
            report(tag, drag(page, tag, moves), LIMIT)
            page.close()
        answered, held = draw(opened(browser, Path(folder), "digit-classifier", "classifier"), moves)
        report("digit-classifier", answered, ANSWER_LIMIT)
        report("  pen held up for", held, FRAME)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=200, help="moves of the mouse in each plane (default 200)")
    main(parser.parse_args().moves)
