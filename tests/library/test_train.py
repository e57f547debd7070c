"""`fit` is Adam on the mean loss, says what it does, repeats itself for a seed and stops cleanly."""

import json
import math
import re
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks import training as benchmark
from cvae_lib import (
    CVAE,
    GenerativeClassifier,
    ImageSet,
    elbo_terms,
    estimate_log_likelihood,
    evaluate,
    fit,
    importance_weighted_bound,
    load,
    posterior_draws,
    train,
)
from cvae_lib.course import RECIPES, Recipe, recipes
from cvae_lib.course.__main__ import main
from cvae_lib.likelihoods import LIKELIHOODS


def noise(n: int = 70, pixels: int = 16) -> ImageSet:
    """Images of uniform noise; 70 are two batches of 32 and one of 6."""
    generator = torch.Generator().manual_seed(n)
    return ImageSet(torch.rand(n, pixels, generator=generator), torch.arange(n) % 3, "noise")


def small(num_labels: int = 0) -> CVAE:
    """The same untrained weights on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CVAE(16, (8,), 2, num_labels)


def without_width(num_labels: int) -> CVAE:
    """A model whose posterior is a point, sigma = exp(-40): its loss does not depend on the draws."""
    model = small(num_labels)
    with torch.no_grad():
        model.encoder.body.rest[-1].bias[2:] = -80
    return model


def loss_by_hand(model: CVAE, data: ImageSet) -> tuple[float, float]:
    """Reconstruction and KL of a model without width, image by image, averaged."""
    rows = []
    for x, label in zip(*data, strict=True):
        y = label if model.num_labels else None
        q = model.encode(x, y)
        image = model.decode(q.loc, y).mean
        kl = sum(
            0.5 * (mu**2 + s**2 - 2 * math.log(s) - 1) for mu, s in zip(q.loc.tolist(), q.scale.tolist(), strict=True)
        )
        rows.append((F.binary_cross_entropy(image, x, reduction="sum").item(), kl))
    reconstruction, kl = zip(*rows, strict=True)
    return sum(reconstruction) / len(rows), sum(kl) / len(rows)


def numbers(history) -> list:
    """A history without its seconds."""
    return [row[:-1] for row in history]


# What is minimised, and what is reported -------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [0, 3])
def test_with_weights_that_stand_still_the_running_average_is_the_average(num_labels):
    """A learning rate that float32 rounds away; the last batch is smaller and must not count for more."""
    model = without_width(num_labels)
    reconstruction, kl = loss_by_hand(model, noise())
    for row in fit(model, noise(), epochs=2, batch_size=32, learning_rate=1e-12):
        assert row.reconstruction == pytest.approx(reconstruction, rel=1e-6)
        assert row.kl == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize("num_labels", [0, 3])
def test_a_step_is_adams_on_the_mean_loss_and_counts_only_afterwards(num_labels):
    """(3.4): Adam's first step is learning_rate * g / (|g| + 1e-8); with one batch an epoch, row 2 shows its effect."""
    model, data = without_width(num_labels), noise()
    history = fit(model, data, epochs=2, batch_size=len(data), learning_rate=0.01)

    by_hand, y = without_width(num_labels), data.labels if num_labels else None
    assert history[0].loss == pytest.approx(sum(loss_by_hand(by_hand, data)), rel=1e-6)
    q = by_hand.encode(data.images, y)
    cross_entropy = F.binary_cross_entropy(by_hand.decode(q.loc, y).mean, data.images, reduction="sum")
    kl = 0.5 * (q.loc**2 + q.variance - 2 * q.scale.log() - 1).sum()
    ((cross_entropy + kl) / len(data)).backward()
    with torch.no_grad():
        for weight in by_hand.parameters():
            weight -= 0.01 * weight.grad / (weight.grad.abs() + 1e-8)
    assert history[1].loss == pytest.approx(sum(loss_by_hand(by_hand, data)), rel=1e-6)
    assert history[1].loss < history[0].loss - 0.01


def test_every_epoch_takes_every_image_once_in_a_new_order(monkeypatch):
    batches = []
    draws = train.posterior_draws
    monkeypatch.setattr(
        train, "posterior_draws", lambda model, x, y, k: batches.append((x, y)) or draws(model, x, y, k)
    )
    data = noise()
    fit(small(3), data, epochs=2, batch_size=32)
    assert [len(x) for x, _ in batches] == [32, 32, 6, 32, 32, 6]
    orders = []
    for epoch in (batches[:3], batches[3:]):
        x, y = (torch.cat(parts) for parts in zip(*epoch, strict=True))
        orders.append(torch.cdist(x, data.images).argmin(1))
        assert torch.equal(data.labels[orders[-1]], y)
        assert sorted(orders[-1].tolist()) == list(range(70))
    first, second = orders
    assert first.tolist() != sorted(first.tolist())
    assert not torch.equal(first, second)


def test_held_out_columns_are_what_evaluate_says_afterwards():
    model, held_out = small(3), noise(40)
    history = fit(model, noise(), epochs=2, held_out=held_out, batch_size=32, seed=5)
    terms, last = evaluate(model, held_out, seed=5), history[-1]
    assert (last.held_out_reconstruction, last.held_out_kl) == (terms.reconstruction.item(), terms.kl.item())
    for row in history:
        assert row.loss == pytest.approx(row.reconstruction + row.kl)
        assert row.held_out_loss == pytest.approx(row.held_out_reconstruction + row.held_out_kl)
        assert row.seconds > 0
    assert history.column("epoch") == [1, 2]
    assert history.column("kl") == [history[0].kl, history[1].kl]


def test_an_observer_sees_every_epoch_and_changes_nothing():
    """Not even when it draws random numbers and leaves another mode behind."""
    seen = []

    def observer(model):
        assert not model.training
        model.train()
        torch.rand(3)
        seen.append(evaluate(model, noise(40)).loss.item())

    model, quiet = small(), small()
    before = evaluate(model, noise(40)).loss.item()
    history = fit(model, noise(), epochs=2, held_out=noise(40), batch_size=32, observer=observer)
    assert numbers(history) == numbers(fit(quiet, noise(), epochs=2, held_out=noise(40), batch_size=32))
    assert torch.equal(model.encoder.body.first.weight, quiet.encoder.body.first.weight)
    assert seen == [before, *history.column("held_out_loss")]
    assert not model.training


def test_without_a_held_out_set_its_columns_are_empty():
    (row,) = fit(small(), noise(), epochs=1)
    assert (row.held_out_reconstruction, row.held_out_kl, row.held_out_loss) == (None, None, None)


def test_evaluate_averages_over_images_however_they_are_cut():
    """(1.14), by the plain mean over images."""
    model = without_width(3)
    terms = evaluate(model, noise(), batch_size=32)
    assert terms.loss.item() == pytest.approx(sum(loss_by_hand(model, noise())), rel=1e-6)
    assert evaluate(small(), noise()).loss == evaluate(small(), noise()).loss != evaluate(small(), noise(), seed=1).loss


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_training_lowers_the_loss_on_images_it_has_not_seen(likelihood):
    """Real digits; three short epochs are enough for every likelihood."""
    torch.manual_seed(0)
    model = CVAE(784, (32,), 2, 10, likelihood=likelihood)
    digits = load("digits", "fit")
    history = fit(model, digits, epochs=3, held_out=load("digits", "validation"), batch_size=32)
    losses = history.column("held_out_loss")
    assert losses == sorted(losses, reverse=True)
    assert history[-1].loss < history[0].loss - 1


# Other objectives ------------------------------------------------------------------------------------------------


def step_by_hand(loss, model: CVAE) -> torch.Tensor:
    """All weights after Adam's first step of 0.01 on a loss; the step is 0.01 * g / (|g| + 1e-8)."""
    loss.backward()
    return torch.cat([(w - 0.01 * w.grad / (w.grad.abs() + 1e-8)).flatten() for w in model.parameters()])


def weights_after(model: CVAE, **arguments) -> torch.Tensor:
    data = noise()
    fit(model, data, batch_size=len(data), learning_rate=0.01, **{"epochs": 1} | arguments)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("arguments", [{"beta": 3.0}, {"beta": 0.0}, {"free_bits": 100.0}])
def test_a_step_is_adams_on_the_weighted_loss(arguments):
    """(5.8): each of the two dimensions has some 40 nats, so 100 free bits free them all, as beta = 0 does."""
    by_hand = without_width(0)
    terms = elbo_terms(by_hand, noise().images)
    beta = 0.0 if "free_bits" in arguments else arguments["beta"]
    expected = step_by_hand((terms.reconstruction + beta * terms.kl).mean(), by_hand)
    torch.testing.assert_close(weights_after(without_width(0), **arguments), expected, atol=1e-4, rtol=0)


def test_free_bits_are_free_for_each_dimension_on_average_over_the_batch():
    """(5.17): the widths make KLs of about 0.3 and 1.6 nats, one less than the free 1 and one more."""
    model = small()
    with torch.no_grad():
        model.encoder.body.rest[-1].bias[2:] = torch.tensor([-1.0, -4.0])
    draws = posterior_draws(model, noise().images)
    q = draws.posterior
    first, second = (0.5 * (q.loc**2 + q.variance - 2 * q.scale.log() - 1)).mean(0)
    assert first < 1 < second
    reconstruction = draws.terms.reconstruction.mean()
    torch.testing.assert_close(train._weighted_loss(draws, 3.0, 1.0), reconstruction + 3 * (1 + second))
    torch.testing.assert_close(train._weighted_loss(draws, 3.0, 0.0), reconstruction + 3 * (first + second))


def test_warm_up_raises_the_weight_of_the_kl_in_even_steps_from_nothing_to_beta(monkeypatch):
    seen = []
    weighted = train._weighted_loss
    monkeypatch.setattr(
        train, "_weighted_loss", lambda draws, beta, bits: seen.append(beta) or weighted(draws, beta, bits)
    )
    fit(small(), noise(), epochs=4, batch_size=35, beta=4.0, warm_up=2)
    assert seen == pytest.approx([0, 1, 2, 3, 4, 4, 4, 4])


def test_the_importance_weighted_objective_maximises_the_bound_and_still_reports_the_elbo():
    """One step of Adam with the draws of `fit`, made again from its seed: one order of the images, then the noise."""
    model, by_hand = small(), small()
    found = weights_after(model, objective="importance_weighted", num_samples=5, seed=7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        x = noise().images[torch.randperm(70)]
        loss = -importance_weighted_bound(by_hand, x, num_samples=5).mean()
    expected = step_by_hand(loss, by_hand)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)

    row = fit(small(), noise(), epochs=1, objective="importance_weighted", num_samples=500, learning_rate=1e-12)[0]
    assert row.loss == pytest.approx(evaluate(small(), noise(), num_samples=500).loss.item(), abs=0.01)
    assert row.loss == pytest.approx(row.reconstruction + row.kl)


def test_an_objective_of_your_own_is_minimised():
    """Here the reconstruction alone, which is beta = 0."""
    found = weights_after(without_width(0), objective=lambda draws: -draws.log_likelihood.mean())
    torch.testing.assert_close(found, weights_after(without_width(0), beta=0.0), atol=1e-6, rtol=0)


def test_in_16_bits_networks_round_and_densities_do_not():
    """The same draws: each number of 16 bits is right to 2^-9, and a sum of pixels is no multiple of 1/4."""
    seen = {}
    for precision in ("float32", "bfloat16"):
        model = CVAE(16, (64,), 2)
        torch.manual_seed(5)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.5)

        def kept(draws, precision=precision):
            seen[precision] = draws
            return -draws.bound.mean()

        fit(model, noise(), epochs=1, batch_size=70, objective=kept, precision=precision)
    fine, coarse = seen["float32"].log_likelihood, seen["bfloat16"].log_likelihood
    assert coarse.dtype == torch.float32
    assert not torch.equal(fine, coarse)
    torch.testing.assert_close(coarse, fine, rtol=0.05, atol=0.05)
    assert (coarse * 4 % 1 != 0).float().mean() > 0.9
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_one_cycle_ends_with_a_rate_of_almost_nothing(monkeypatch):
    """Up to the rate asked for at 30 % of the steps, then down; a constant one stays where it is."""
    for schedule in ("one_cycle", "constant"):
        rates = []
        step = torch.optim.Adam.step

        def noting(self, *arguments, step=step, rates=rates):
            rates.append(self.param_groups[0]["lr"])
            return step(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.Adam, "step", noting)
            fit(small(), noise(), epochs=10, batch_size=7, learning_rate=0.01, schedule=schedule)
        if schedule == "constant":
            assert rates == [0.01] * 100
        else:
            assert max(rates) == pytest.approx(0.01, rel=1e-3)
            assert 25 < rates.index(max(rates)) < 35
            assert rates[-1] < 1e-6


def test_a_transform_is_done_to_every_batch_afresh(monkeypatch):
    seen = []
    draws = train.posterior_draws
    monkeypatch.setattr(train, "posterior_draws", lambda model, x, *rest: seen.append(x) or draws(model, x, *rest))
    fit(small(), noise(2_000), epochs=2, batch_size=2_000, transform=torch.bernoulli)
    for images in seen:
        assert set(images.unique().tolist()) == {0.0, 1.0}
        assert images.mean().item() == pytest.approx(noise(2_000).images.mean().item(), abs=0.02)
    first, second = (images.sort(0).values for images in seen)
    assert not torch.equal(first, second)


def test_the_log_likelihood_of_a_data_set_is_the_bound_of_each_image(monkeypatch):
    """(6.1), against a plain mean of weights in float64; the bound of 3,000 draws spreads by less than 0.02 nat."""
    data, model = noise(9), small(3)
    values = estimate_log_likelihood(model, data, 3_000)
    assert torch.equal(values, estimate_log_likelihood(model, data, 3_000))
    q = model.encode(*data)
    z = q.sample((3_000,))
    log_p = model.decode(z, data.labels).log_prob(data.images).sum(-1) + model.prior.log_prob(z).sum(-1)
    expected = (log_p - q.log_prob(z).sum(-1)).double().exp().mean(0).log()
    torch.testing.assert_close(values.double(), expected, atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="num_samples must be at least 1; got 0"):
        estimate_log_likelihood(model, data, 0)


def test_binarised_images_are_drawn_once_with_the_grey_value_as_probability():
    grey = noise(4_000)
    binary = grey.binarised()
    assert str(binary) == "noise binarised at random, 4,000 images"
    assert set(binary.images.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(binary.images, grey.binarised().images)
    assert not torch.equal(binary.images, grey.binarised(1).images)
    dark, bright = (binary.images[chosen].mean().item() for chosen in (grey.images < 0.1, grey.images > 0.9))
    assert dark == pytest.approx(0.05, abs=0.01)
    assert bright == pytest.approx(0.95, abs=0.01)


# Seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    runs = []
    for seed in (1, 1, 2):
        torch.rand(len(runs))  # the caller's random state must not matter
        model = small(3)
        history = fit(model, noise(), epochs=2, held_out=noise(40), batch_size=32, seed=seed)
        runs.append((numbers(history), torch.cat([weight.flatten() for weight in model.parameters()])))
    (one, weights), (again, same_weights), (other, other_weights) = runs
    assert one == again != other
    assert torch.equal(weights, same_weights)
    assert not torch.equal(weights, other_weights)


def test_the_callers_random_state_stays_as_it_was():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    fit(small(), noise(), epochs=1, held_out=noise(40))
    evaluate(small(), noise())
    assert torch.equal(torch.get_rng_state(), state)


# What is said, and how it stops ----------------------------------------------------------------------------------


def test_the_first_line_names_the_data(capsys):
    fit(small(), noise(1_200), epochs=1, held_out=noise(40))
    assert capsys.readouterr().out.splitlines()[0] == "Data: noise, 1,200 images; held out: noise, 40 images"


@pytest.mark.parametrize(("step", "whole_epochs"), [(2, 0), (5, 1), (9, 2)])
def test_an_interruption_returns_the_whole_epochs(monkeypatch, capsys, step, whole_epochs):
    """Three batches an epoch; the user's interrupt comes in the named step."""
    undisturbed, steps = fit(small(), noise(), epochs=3, batch_size=32), []

    def interrupted(*arguments):
        steps.append(arguments)
        if len(steps) == step:
            raise KeyboardInterrupt
        return draws(*arguments)

    draws = train.posterior_draws
    monkeypatch.setattr(train, "posterior_draws", interrupted)
    model, state = small(), torch.get_rng_state()
    history = fit(model, noise(), epochs=3, batch_size=32)
    assert numbers(history) == numbers(undisturbed[:whole_epochs])
    assert f"Interrupted in epoch {whole_epochs + 1}" in capsys.readouterr().out
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_no_number_ends_with_advice():
    with pytest.raises(FloatingPointError, match=r"The loss became nan in epoch \d; try a learning_rate below 1e\+25"):
        fit(small(), noise(), epochs=2, batch_size=32, learning_rate=1e25)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "must be at least 1 .*got epochs=0"),
        ({"batch_size": 0}, "must be at least 1 .*got .*batch_size=0"),
        ({"num_samples": 0}, "must be at least 1 .*got .*num_samples=0"),
        ({"learning_rate": 0}, "learning_rate above 0; got .*learning_rate=0"),
        ({"learning_rate": math.nan}, "learning_rate above 0; got .*learning_rate=nan"),
        ({"beta": -1}, "must be at least 0; got beta=-1"),
        ({"beta": math.nan}, "must be at least 0; got beta=nan"),
        ({"warm_up": -1}, "must be at least 0; got .*warm_up=-1"),
        ({"free_bits": -0.1}, "must be at least 0; got .*free_bits=-0.1"),
        ({"objective": "importance_weighted", "beta": 2}, "belong to the objective 'elbo'; got .*importance_weighted"),
        ({"objective": "iwae"}, "Unknown objective 'iwae'; known: elbo, importance_weighted"),
        ({"precision": "float16"}, "Unknown precision 'float16'; known: float32, bfloat16"),
        ({"schedule": "cosine"}, "Unknown schedule 'cosine'; known: constant, one_cycle"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(small(), noise(), **{"epochs": 1} | wrong)


def test_data_that_do_not_fit_are_refused_before_the_first_step(capsys):
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 16\); got \(70, 9\)"):
        fit(small(), noise(pixels=9), epochs=1)
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 16\); got \(70, 9\)"):
        fit(small(), noise(), epochs=1, held_out=noise(pixels=9))
    with pytest.raises(ValueError, match=r"Labels must be integers from 0 to 1; got \[0, 1, 2\]"):
        fit(small(2), noise(), epochs=1)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_keeps_the_model_there_and_its_seed():
    """Data on the CPU, model on the GPU. The draws differ from the CPU's; a posterior without width hides that."""
    on_cpu = fit(without_width(3), noise(), epochs=1, learning_rate=1e-12)
    runs = []
    for _ in range(2):
        model = without_width(3).cuda()
        state = torch.cuda.get_rng_state()
        runs.append(fit(model, noise(), epochs=1, held_out=noise(40), learning_rate=1e-12))
        assert model.device.type == "cuda"
        assert torch.equal(torch.cuda.get_rng_state(), state)
    assert numbers(runs[0]) == numbers(runs[1])
    assert runs[0][0].loss == pytest.approx(on_cpu[0].loss, rel=1e-4)


# Recipes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch) -> str:
    """A recipe that takes no time, on the embedded digits."""
    model = {"pixels": 784, "hidden_sizes": (4,), "num_labels": 10}
    recipe = Recipe(model=model, fit={"epochs": 2}, seeds=(3, 4), dataset="digits")
    monkeypatch.setitem(RECIPES, "tiny", recipe)
    return "tiny"


def test_making_weights_stores_the_first_seed_and_the_log_of_all(tiny, tmp_path):
    recipes.make_weights(tiny, tmp_path)
    log = json.loads((tmp_path / tiny / "training.json").read_text())
    assert log["data"] == ["embedded digits train, 1,500 images", "embedded digits test, 297 images"]
    assert [run["seed"] for run in log["runs"]] == [3, 4]
    assert log["shipped_seed"] == 3
    assert len(log["runs"][0]["epochs"]) == 2

    again, history = recipes.train_recipe(tiny, 3, load("digits", "train"), load("digits", "test"))
    for logged, row in zip(log["runs"][0]["epochs"], numbers(history), strict=True):
        assert list(logged.values())[:-1] == [pytest.approx(value, abs=5.1e-5) for value in row]
    stored = CVAE.from_pretrained(tmp_path / tiny)
    for name, weight in stored.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name].half().float())
    assert log["stored_weights_test_loss"] == pytest.approx(evaluate(stored, load("digits", "test")).loss.item())


def test_a_recipe_that_binarises_is_tested_on_binarised_images_and_evaluated(tiny, tmp_path, monkeypatch):
    fit_arguments = {
        "epochs": 1,
        "transform": ("shift", "binarise"),
        "objective": "importance_weighted",
        "num_samples": 2,
    }
    recipe = Recipe(RECIPES[tiny].model, fit_arguments, seeds=(0,), dataset="digits", evaluation_samples=3)
    monkeypatch.setitem(RECIPES, tiny, recipe)
    recipes.make_weights(tiny, tmp_path)
    log = json.loads((tmp_path / tiny / "training.json").read_text())
    assert log["data"][1] == "embedded digits test binarised at random, 297 images"
    assert log["recipe"]["fit"]["transform"] == ["shift", "binarise"]
    found = log["stored_weights_test_log_likelihood"]
    values = estimate_log_likelihood(CVAE.from_pretrained(tmp_path / tiny), load("digits", "test").binarised(), 3)
    assert found["num_samples"] == 3
    assert found["mean"] == pytest.approx(values.mean().item())
    assert found["standard_error"] == pytest.approx(values.std().item() / 297**0.5)


def test_a_recipe_may_ship_every_seed_and_log_how_they_classify_alone_and_together(tiny, tmp_path, monkeypatch):
    model = RECIPES[tiny].model
    recipe = Recipe(model, {"epochs": 2}, (3, 4), dataset="digits", split="fit", every_seed=True, accuracy_draws=(1, 2))
    monkeypatch.setitem(RECIPES, tiny, recipe)
    recipes.make_weights(tiny, tmp_path)
    log = json.loads((tmp_path / tiny / "training.json").read_text())
    assert log["data"] == ["embedded digits fit, 1,250 images", "embedded digits validation, 250 images"]
    images, labels = load("digits", "validation")
    tables = []
    for run, folder in zip(log["runs"], (tmp_path / tiny, tmp_path / tiny / "seed-4"), strict=True):
        for bound in ("reconstruction", "elbo", "importance_weighted"):
            classifier = GenerativeClassifier(CVAE.from_pretrained(folder), bound, num_samples=2)
            assert run["accuracy"][bound]["2"] == pytest.approx(classifier.score(images, labels), abs=1 / 250)
        tables.append(GenerativeClassifier(CVAE.from_pretrained(folder), num_samples=2).log_likelihood(images))
    for way, together in {
        "average of scores": (tables[0] + tables[1]) / 2,
        "average of likelihoods": torch.logaddexp(*tables),
    }.items():
        right = (together.argmax(1) == labels).double().mean().item()
        assert log["ensemble_accuracy"][way]["elbo"]["2"] == pytest.approx(right, abs=1 / 250)
    assert [row["epoch"] for row in log["runs"][1]["epochs"]] == [1, 2]
    assert CVAE.from_pretrained(tmp_path / tiny / "seed-4").state_dict().keys() == CVAE(**model).state_dict().keys()


def test_a_recipe_may_start_at_the_mean_of_its_training_images(tiny, monkeypatch):
    """With a rate that moves nothing, the decoder's last bias is still where it began."""
    recipe = RECIPES[tiny]
    monkeypatch.setitem(
        RECIPES, tiny, Recipe(recipe.model, {"epochs": 1, "learning_rate": 1e-9}, dataset="digits", start_at_mean=True)
    )
    data = load("digits", "train")
    model, _ = recipes.train_recipe(tiny, 3, data, load("digits", "test"))
    mean = data.images.mean(0).clamp(0.001, 0.999)
    torch.testing.assert_close(model.decoder.body.rest[-1].bias.sigmoid(), mean, rtol=1e-4, atol=1e-6)


def test_snapshots_are_the_posterior_means_of_the_first_seed_epoch_by_epoch(tiny, tmp_path, monkeypatch):
    recipe = Recipe({"pixels": 784, "hidden_sizes": (4,)}, {"epochs": 2}, seeds=(3, 4), dataset="digits", snapshots=7)
    monkeypatch.setitem(RECIPES, tiny, recipe)
    recipes.make_weights(tiny, tmp_path)
    stored, log = load_file(tmp_path / tiny / "snapshots.safetensors"), tmp_path / tiny / "training.json"
    terms = [
        [row[f"held_out_{term}"] for term in ("reconstruction", "kl")]
        for row in json.loads(log.read_text())["runs"][0]["epochs"]
    ]
    torch.testing.assert_close(stored["terms"], torch.tensor(terms), rtol=0, atol=1e-4)  # the log is rounded
    means = stored["means"]
    assert means.shape == (3, 7, 2)
    assert means.dtype == torch.float16

    images = load("digits", "test").images[:7]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        untrained = CVAE(**recipe.model)
    trained, _ = recipes.train_recipe(tiny, 3, load("digits", "train"), load("digits", "test"))
    assert torch.equal(means[0], untrained.encode(images).loc.detach().half())
    assert torch.equal(means[2], trained.encode(images).loc.detach().half())
    assert not torch.equal(means[1], means[2])


def test_an_unknown_recipe_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CVAE_DATA", "no/such/folder")  # the name comes first
    message = f"Unknown recipe 'vae-3d'; known: {', '.join(RECIPES)}"
    with pytest.raises(ValueError, match=message):
        recipes.make_weights("vae-3d", tmp_path)
    monkeypatch.setattr(sys, "argv", ["cvae_lib", "weights", "vae-3d"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err


# Benchmark -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [0, 10])
def test_the_benchmark_compares_like_with_like(monkeypatch, capsys, num_labels):
    """From the same weights both loops reach the same loss, give or take the order of the images and the draws."""
    monkeypatch.setenv("CVAE_DATASET", "digits")
    benchmark.compare(epochs=4, seeds=1, num_labels=num_labels)
    table = capsys.readouterr().out
    assert table.startswith("Data: embedded digits train, 1,500 images; final loss on embedded digits test, 297 images")
    loop, ours = (
        float(re.search(rf"{name} +[\d.]+ +([\d.]+)", table)[1]) for name in ("DataLoader loop", "cvae_lib.fit")
    )
    assert ours == pytest.approx(loop, rel=0.02)
    assert re.search(r"fit takes \d+\.\d\d of the loop's time", table)
