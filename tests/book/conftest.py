"""The book, built once in a test run; a browser; and the playground with its live elements in it."""

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built import DESK, PHONE, Book, build, opened
from live import ELEMENTS, PLAYGROUND
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def pytest_itemcollected(item: pytest.Item) -> None:
    """What asks for the browser is marked `browser`, so that it can be left out."""
    if "browser" in getattr(item, "fixturenames", ()):
        item.add_marker("browser")


@pytest.fixture(scope="session")
def built_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return build(tmp_path_factory.getbasetemp() / "book")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        reason = "no chromium on this machine: the pages were not opened in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(built_book: Book) -> Iterator[str]:
    """The address at which the book is served over http."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(built_book.html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, built_book: Book, served: str) -> str:
    """Where the book is, opened as files and from a server."""
    return served if request.param == "http" else built_book.html.as_uri() + "/"


@pytest.fixture(scope="module")
def playground(browser: Browser, built_book: Book) -> Iterator[tuple[Page, list[str]]]:
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


@pytest.fixture
def phone(browser: Browser, built_book: Book) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto((built_book.html / PLAYGROUND).as_uri())
    yield page
    context.close()
