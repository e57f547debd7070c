"""The experiments of chapter 8: what ten planes share, and an encoder under wrong labels."""

import pytest
import torch

from cvae_lib import CVAE, GenerativeClassifier, elbo, load
from cvae_lib.course.experiments import planes, stored_results


def test_slant_is_the_slope_of_a_stroke_wherever_it_stands():
    """(8.2) against a straight stroke, and against the least-squares line of u on v."""
    stroke = torch.zeros(28, 28)
    for row in range(4, 24):
        stroke[row, 18 - (row - 3) // 2] = 1
    assert planes.slant(stroke.flatten()).item() == pytest.approx(0.5, abs=0.01)
    assert planes.slant(stroke.fliplr().flatten()).item() == pytest.approx(-0.5, abs=0.01)
    moved = stroke.roll((2, 3), (0, 1)).flatten()
    assert planes.slant(moved).item() == pytest.approx(planes.slant(stroke.flatten()).item(), abs=1e-5)
    image = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
    v, u = torch.meshgrid(-torch.arange(28.0), torch.arange(28.0), indexing="ij")
    weight = image.flatten().sqrt()
    line = torch.linalg.lstsq(
        torch.stack([v.flatten(), torch.ones(784)], 1) * weight[:, None], (u.flatten() * weight)[:, None]
    ).solution
    assert planes.slant(image.flatten()).item() == pytest.approx(line[0].item(), abs=1e-4)
    assert planes.ink(image.flatten()) == image.sum()


def test_style_that_is_shared_and_style_that_is_not():
    """Strokes that lean by the first coordinate under even labels, and by the second under odd ones."""
    z = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    axis = torch.arange(28.0) - 13.5
    lean = 0.1 * torch.stack([z[:, label % 2] for label in range(10)], 1)
    middle = lean[..., None] * -axis  # (codes, labels, rows)
    images = (-0.5 * (axis - middle[..., None]) ** 2).exp().flatten(-2)
    found = planes.shared_style(z, images)
    assert found["slant_is_linear"] > 0.98
    assert found["slant"] == pytest.approx(20 / 45, abs=0.05)  # 20 of 45 pairs lean alike, the others by chance
    assert found["slant_lowest"] == pytest.approx(torch.corrcoef(z.T)[0, 1].item(), abs=0.05)
    bright = 0.5 + 0.1 * z[:, 1:].clamp(-3, 3) * (1 - 2 * (torch.arange(10) == 1))
    alike = planes.shared_style(z, images[:, :1] * bright[..., None])
    assert alike["slant"] == pytest.approx(1, abs=1e-3)
    assert alike["ink_without_1"] == pytest.approx(1, abs=0.01)
    assert alike["ink_with_1"] == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("networks", ["one", "ten"])
def test_planes_are_those_of_trained_networks(networks):
    found = planes.planes(networks, 0, dataset="digits", epochs=1)
    assert found == planes.planes(networks, 0, dataset="digits", epochs=1)
    assert -1 <= found["slant_lowest"] <= found["slant"] <= found["slant_size"] <= 1
    assert -1 <= found["ink_with_1_lowest"] <= found["ink_with_1"] <= found["ink_with_1_highest"] <= 1


def test_the_encoder_alone_is_trained_and_the_model_stays(monkeypatch):
    trained = []
    monkeypatch.setattr(planes, "gaps", lambda model, test: trained.append(model) or {})
    found = {labels: planes.encoder_alone(labels, dataset="digits", epochs=1) for labels in planes.TEACHERS}
    shipped, test = CVAE.from_pretrained("cvae-2d"), load("digits", "test")
    accuracy = GenerativeClassifier(shipped, "elbo", 10).score(test.images, test.labels)
    assert found["as shipped"]["accuracy"] == pytest.approx(accuracy, abs=1e-4)
    for model in trained:
        for name, weight in shipped.decoder.state_dict().items():
            assert torch.equal(model.decoder.state_dict()[name], weight)
    wrong = (test.labels + 1) % 10
    with torch.no_grad():
        before, after = (elbo(model, test.images, wrong, 10).mean() for model in (trained[0], trained[2]))
    assert after > before + 10


def test_gaps_are_differences_to_quadrature(monkeypatch):
    """With a quadrature that answers 1,000 nats above the label, the shortfall is known but for the bound."""
    model, test = CVAE.from_pretrained("cvae-2d"), load("digits", "test")
    made_up = 1000.0 - torch.arange(10.0)
    monkeypatch.setattr(planes, "log_likelihood_by_quadrature", lambda model, x, y: made_up.expand(len(x), 10))
    found = planes.gaps(model, test, images=20, draws=16)
    few = test.sample(20, seed=0)
    true = few.labels[:, None] == torch.arange(10)
    with torch.no_grad():
        bounds = elbo(model, few.images[:, None], torch.arange(10), 200)
        rival = (few.labels == 0).long()  # label 0 answers most, where it is wrong
        at_rival = elbo(model, few.images, rival, 200)
    assert found["true"] == pytest.approx((made_up - bounds)[true].mean().item(), rel=0.02)
    assert found["wrong"] == pytest.approx((made_up - bounds)[~true].mean().item(), rel=0.02)
    assert found["rival_1"] == pytest.approx((made_up[rival] - at_rival).mean().item(), rel=0.02)
    assert found["rival_16"] < found["rival_1"]


def test_what_chapter_8_says_of_the_stored_planes():
    """One network shares the slant, and its 1 loses ink where others gain it, with every seed; ten networks do not."""
    rows = stored_results("planes")["rows"]
    assert {row["networks"] for row in rows} == {"one", "ten"}
    for row in rows:
        assert row["slant_is_linear"] > 0.8
        if row["networks"] == "one":
            assert row["slant"] > 0.9
            assert row["ink_with_1_highest"] < 0
        else:
            assert abs(row["slant"]) < 0.3
            assert row["ink_with_1_lowest"] < -0.2 < 0.2 < row["ink_with_1_highest"]
