"""The laboratory of the bound, `elbo-lab`: it is exact, and q follows slider, key and finger."""

import pytest
import torch
from live import brought_up, same, tab_to, touch
from playwright.sync_api import Page
from torch.distributions import Normal, kl_divergence


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
    lab.locator(".bars", has_text="4.92").wait_for()  # drawn in the frame after


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
