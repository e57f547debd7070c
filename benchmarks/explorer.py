"""Milliseconds from a pointer event to the redrawn digits, in each live plane of the pages.

    python benchmarks/explorer.py [--moves N]

A page with nothing but the planes is opened in Chromium, and the mouse is dragged over each plane. The clock runs from
the moment the page gets the event until the pixels of every picture have been read back: one picture for the VAE,
eleven for the CVAE (the digit, and the ten labels side by side). The limit is 4 ms for the median.
"""

import argparse
import math
import shutil
import tempfile
from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import Page, sync_playwright

EXPLORER = Path(__file__).parents[1] / "book" / "_static" / "explorer"
PLANES = ("vae-plane", "cvae-plane")
LIMIT = 4.0
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


def page_of(tag: str) -> str:
    """A page with one element, and what it needs."""
    scripts = "".join(
        f'<script src="{(EXPLORER / f"{name}.js").as_uri()}" defer></script>' for name in ("engine", "plane")
    )
    style = f'<link rel="stylesheet" href="{(EXPLORER / "explorer.css").as_uri()}">'
    return f"<!doctype html><meta charset='utf-8'>{style}{scripts}<{tag}></{tag}>"


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


def main(moves: int) -> None:
    """Measure both planes, and print the table."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("No chromium on this machine: nothing measured.")
        return
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        print(f"Chromium {browser.version}, {moves} moves in each plane\n")
        print(f"{'':12}{'median ms':>10}{'95 % below':>12}   limit {LIMIT:g} ms for the median")
        for tag in PLANES:
            file = Path(folder) / f"{tag}.html"
            file.write_text(page_of(tag), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.goto(file.as_uri())
            took = drag(page, tag, moves)
            verdict = "kept" if median(took) <= LIMIT else "missed"
            print(f"{tag:12}{median(took):10.2f}{quantiles(took, n=20)[-1]:12.2f}   {verdict}, {len(took)} events")
            page.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=200, help="moves of the mouse in each plane (default 200)")
    main(parser.parse_args().moves)
