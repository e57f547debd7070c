"""Every page of the built book, opened in a real browser: quiet, self-contained, readable on a phone, accessible."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from built import AXE, COLOURS, DESK, PHONE, Book, opened, pages, sideways
from playwright.sync_api import Browser, Page

PAGES = [*pages(), "genindex.html", "search.html", "_modules/cvae_lib/loss.html"]


def untypeset(page: Page) -> list[str]:
    """Formulas that one sees as source text, and formulas that MathJax could not read."""
    return page.evaluate(
        r"""() => {
          const article = document.querySelector("main").cloneNode(true);
          article.querySelectorAll("pre, code, script, mjx-container").forEach((part) => part.remove());
          const raw = article.textContent.match(/\$\$|\\(tag|begin|frac|\(|\[)[^\n]{0,60}/g) ?? [];
          const failed = [...document.querySelectorAll("mjx-merror")].map((e) => "mjx-merror: " + e.textContent);
          const left = [...document.querySelectorAll(".math:not(:has(mjx-container))")].map((e) => e.textContent);
          return [...raw, ...failed, ...left];
        }"""
    )


def out_of_reach(page: Page) -> list[str]:
    """Boxes whose content goes on sideways, but that the keyboard cannot reach to scroll them."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main *")]
          .filter((box) => box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0 && box.tabIndex < 0
            && ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
          .map((box) => box.outerHTML.slice(0, 160))"""
    )


def violations(page: Page, options: dict = AXE) -> list[str]:
    """What axe finds, on a page thinned out: it takes its time for every part of a formula and every word of code.

    The inner parts of formulas are MathJax's, and of coloured words one of each kind is enough.
    """
    page.evaluate(
        """() => {
          document.querySelectorAll("mjx-container").forEach((formula) => formula.replaceChildren());
          const seen = new Set();
          document.querySelectorAll("pre span").forEach((word) => {
            const kind = word.className + !!word.closest(".cell_output");
            if (seen.has(kind)) word.replaceWith(word.textContent);
            seen.add(kind);
          });
        }"""
    )
    return [
        f"{fault['id']} ({fault['impact']}): {fault['help']}: {[node['html'][:160] for node in fault['nodes'][:3]]}"
        for fault in Axe().run(page, options=options).response["violations"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_works_from_a_file_on_a_phone(browser: Browser, built_book: Book, name: str) -> None:
    address = (built_book.html / name).as_uri()
    page, complaints = opened(browser, address, built_book.html.as_uri(), PHONE)
    assert not complaints, f"{name}: {complaints}"
    assert sideways(page) <= 0, f"{name} scrolls sideways by {sideways(page)} px on a phone"
    assert not (faults := untypeset(page)), f"{name} shows formulas as text: {faults}"
    assert not (faults := out_of_reach(page)), f"{name} has boxes that the keyboard cannot scroll: {faults}"
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_works_from_a_server_in_light_and_dark(browser: Browser, served: str, name: str) -> None:
    page, complaints = opened(browser, served + name, served, DESK)
    page.add_style_tag(content="* { transition: none !important }")  # no colours half way between two schemes
    for scheme, options in (("light", AXE), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        assert not (faults := violations(page, options)), f"{name} in {scheme}:\n" + "\n".join(faults)
    assert not complaints, f"{name}: {complaints}"
    page.close()


def test_the_layout_for_phones_is_accessible(browser: Browser, served: str) -> None:
    """What a phone shows instead of the sidebars is the same on every page."""
    page, _ = opened(browser, served + pages()[1], served, PHONE)
    assert not (faults := violations(page)), "\n".join(faults)
    page.close()


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_the_search_finds_pages(browser: Browser, built_book: Book, served: str, scheme: str) -> None:
    home = built_book.html.as_uri() + "/" if scheme == "file" else served
    page, complaints = opened(browser, home + "search.html?q=likelihood", home, DESK)
    page.wait_for_selector(f"#search-results a[href*='{pages()[1].removesuffix('.html')}']")
    page.wait_for_load_state("networkidle")
    assert not complaints
    page.close()


def test_the_address_of_the_book_leads_to_its_front_page(browser: Browser, served: str) -> None:
    page = browser.new_page()
    page.goto(served)
    page.wait_for_url(served + pages()[0])
    page.close()


def test_the_browser_checks_find_faults(browser: Browser, served: str) -> None:
    """Each of the checks above sees the fault it is there for."""
    page, complaints = opened(browser, served + pages()[0], served, PHONE)
    page.evaluate(
        r"""() => {
          const article = document.querySelector("article");
          article.insertAdjacentHTML("beforeend", `
            <p style="width: 500px; color: #ccc">$$ x \\tag{1} <img src="x.png"></p>
            <div style="width: 50px; overflow: auto">${"wide".repeat(20)}</div>`);
          console.error("loud");
          return fetch("http://127.0.0.2:1/").catch(() => null);
        }"""
    )
    assert sideways(page) > 0
    assert untypeset(page) == ["$$", r"\tag{1} "]
    assert ["wide" in box for box in out_of_reach(page)] == [True]
    assert {fault.split()[0] for fault in violations(page)} >= {"color-contrast", "image-alt"}
    assert "console: loud" in complaints
    assert "asks for http://127.0.0.2:1/" in complaints
    page.close()
