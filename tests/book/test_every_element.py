"""What every live element owes: it fetches late and once, and can be used by everyone everywhere."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from built import AXE, COLOURS, DESK, PHONE, opened, sideways
from live import ELEMENTS, FETCHED, PLANES, PLAYGROUND, READY, RUN, at_point, brought_up, where
from playwright.sync_api import Browser, Page


def fetched(page: Page) -> list[str]:
    return page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name.split('/weights/')[1])")


@pytest.mark.parametrize("tag", RUN)
def test_nothing_is_fetched_before_an_element_is_in_view_and_nothing_twice(
    browser: Browser,
    served: str,
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
    mine = sorted(f"{RUN[tag]}.{part}.js" for part in FETCHED[tag])
    page.evaluate("(tag) => document.querySelector('article h1').after(document.createElement(tag))", tag)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(f"(tag) => [...document.querySelectorAll(tag)].every({READY})", arg=tag)
    brought_up(page, tag)
    assert sorted(file for file in asked if file in mine) == mine
    assert not complaints
    page.close()


def test_weights_that_do_not_arrive_are_reported_in_the_element(browser: Browser, served: str) -> None:
    page, _ = opened(browser, served + PLAYGROUND, served, DESK)
    page.route("**/weights/*", lambda route: route.abort())
    plane = page.locator("vae-plane")
    plane.scroll_into_view_if_needed()
    plane.locator(".source", has_text="cannot run").wait_for()
    page.close()


def test_nothing_is_announced_while_the_reader_is_elsewhere(page: Page) -> None:
    for tag in ELEMENTS:
        brought_up(page, tag)
    page.wait_for_timeout(1000)
    assert (
        page.evaluate("[...document.querySelectorAll('[role=status]')].map((part) => part.textContent).join('')") == ""
    )


@pytest.mark.parametrize("tag", RUN)
def test_what_one_touches_is_large_enough(phone: Page, tag: str) -> None:
    """24 by 24 pixels at least (WCAG 2.2, 2.5.8)."""
    element = brought_up(phone, tag)
    for target in element.locator("button, select, input[type=range], .dial label").all():
        if target.is_visible():
            box = target.bounding_box()
            assert min(box["width"], box["height"]) >= 24, target.evaluate("(part) => part.outerHTML.slice(0, 80)")


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
    elif tag in RUN:
        if tag == "digit-classifier":
            element.get_by_label("Weights").select_option(PLANES["cvae-plane"])
        element.locator(".plane").wait_for()
        drawn, plane = (element.locator(part).bounding_box()["width"] for part in (".frame", ".plane"))
        assert 0.9 * plane < drawn < plane <= 320
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


def test_nothing_moves_by_itself(page: Page) -> None:
    """So there is nothing to hold still for readers who prefer reduced motion."""
    for tag in ELEMENTS:
        brought_up(page, tag)
    page.locator("cvae-plane .dial label").first.click()
    targets = page.evaluate(
        "document.getAnimations().map(({ effect }) => effect.target.closest('.sides, .bars, .lab'))"
    )
    assert not any(targets)
