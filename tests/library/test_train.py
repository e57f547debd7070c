"""`fit` is Adam on the mean of an objective, says what it does, and repeats itself for a seed."""

import math

import pytest
import torch
from torch.nn import functional as F
from toys import loss_by_hand, noise, numbers, small, without_width

from cvae_lib import (
    CVAE,
    Elbo,
    ImportanceWeighted,
    elbo_terms,
    evaluate,
    fit,
    importance_weighted_bound,
    load,
    posterior_draws,
    train,
    train_step,
)
from cvae_lib.likelihoods import LIKELIHOODS

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
        train, "posterior_draws", lambda model, x, y, k, **how: batches.append((x, y)) or draws(model, x, y, k, **how)
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


@pytest.mark.slow
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
    beta = arguments.get("beta", 0.0)
    expected = step_by_hand((terms.reconstruction + beta * terms.kl).mean(), by_hand)
    torch.testing.assert_close(
        weights_after(without_width(0), objective=Elbo(**arguments)), expected, atol=1e-4, rtol=0
    )


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
    torch.testing.assert_close(Elbo(3.0, free_bits=1.0)(draws, 0), reconstruction + 3 * (1 + second))
    torch.testing.assert_close(Elbo(3.0)(draws, 0), reconstruction + 3 * (first + second))


def test_warm_up_raises_the_weight_of_the_kl_in_even_steps_from_nothing_to_beta():
    """The weight is read off the loss: what is left of it without the reconstruction, in units of the KL."""
    seen, objective = [], Elbo(beta=4.0, warm_up=2)

    def watched(draws, epochs_done):
        loss = objective(draws, epochs_done)
        seen.append(((loss - draws.terms.reconstruction.mean()) / draws.terms.kl.mean()).item())
        return loss

    fit(without_width(0), noise(), epochs=4, batch_size=35, objective=watched)
    assert seen == pytest.approx([0, 1, 2, 3, 4, 4, 4, 4], abs=1e-4)


def test_the_importance_weighted_objective_maximises_the_bound_and_still_reports_the_elbo():
    """One step of Adam with the draws of `fit`, made again from its seed: one order of the images, then the noise."""
    model, by_hand = small(), small()
    found = weights_after(model, objective=ImportanceWeighted(), num_samples=5, seed=7)
    generator = torch.Generator().manual_seed(7)
    x = noise().images[torch.randperm(70, generator=generator)]
    draws = torch.randn(5, 70, 2, generator=generator)
    expected = step_by_hand(-importance_weighted_bound(by_hand, x, noise=draws).mean(), by_hand)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)

    row = fit(small(), noise(), epochs=1, objective=ImportanceWeighted(), num_samples=500, learning_rate=1e-12)[0]
    assert row.loss == pytest.approx(evaluate(small(), noise(), num_samples=500).loss.item(), abs=0.01)
    assert row.loss == pytest.approx(row.reconstruction + row.kl)


def test_an_objective_of_your_own_is_minimised():
    """Here the reconstruction alone, which is beta = 0; it is told how many epochs are done."""
    seen = []

    def reconstruction(draws, epochs_done):
        seen.append(epochs_done)
        return -draws.log_likelihood.mean()

    found = weights_after(without_width(0), objective=reconstruction)
    torch.testing.assert_close(found, weights_after(without_width(0), objective=Elbo(beta=0.0)), atol=1e-6, rtol=0)
    fit(small(), noise(), epochs=2, batch_size=32, objective=reconstruction)
    assert seen == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])


def test_a_step_alone_is_the_step_of_fit():
    """`train_step` with the optimiser, the images and the generator that `fit` would use."""
    model, data = small(3), noise()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(70, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [weight.clone() for weight in model.parameters()]
    draws = train_step(model, optimizer, data.images[order], data.labels[order], generator=generator)
    assert draws.z.shape == (1, 70, 2)
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    found = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    torch.testing.assert_close(found, weights_after(small(3)), atol=1e-6, rtol=0)


def test_in_16_bits_networks_round_and_densities_do_not():
    """The same draws: each number of 16 bits is right to 2^-9, and a sum of pixels is no multiple of 1/4."""
    seen = {}
    for precision in ("float32", "bfloat16"):
        model = CVAE(16, (64,), 2)
        torch.manual_seed(5)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.5)

        def kept(draws, epochs_done, precision=precision):
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
    monkeypatch.setattr(
        train, "posterior_draws", lambda model, x, *rest, **how: seen.append(x) or draws(model, x, *rest, **how)
    )
    fit(small(), noise(2_000), epochs=2, batch_size=2_000, transform=torch.bernoulli)
    for images in seen:
        assert set(images.unique().tolist()) == {0.0, 1.0}
        assert images.mean().item() == pytest.approx(noise(2_000).images.mean().item(), abs=0.02)
    first, second = (images.sort(0).values for images in seen)
    assert not torch.equal(first, second)


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


def test_a_loss_that_is_no_number_ends_with_advice():
    with pytest.raises(FloatingPointError, match=r"The loss became nan in epoch \d; try a learning_rate below 1e\+25"):
        fit(small(), noise(), epochs=2, batch_size=32, learning_rate=1e25)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"num_samples": 0}, "num_samples must be at least 1; got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0 and finite; got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0 and finite; got nan"),
        ({"precision": "float16"}, "Unknown precision 'float16'; known: float32, bfloat16"),
        ({"schedule": "cosine"}, "Unknown schedule 'cosine'; known: constant, one_cycle"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(small(), noise(), **{"epochs": 1} | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": -1}, "beta must be at least 0; got -1"),
        ({"beta": math.nan}, "beta must be at least 0; got nan"),
        ({"warm_up": -1}, "warm_up must be at least 0; got -1"),
        ({"free_bits": -0.1}, "free_bits must be at least 0; got -0.1"),
    ],
)
def test_arguments_of_the_objective_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Elbo(**wrong)


def test_a_weight_of_the_kl_cannot_be_asked_of_another_objective():
    with pytest.raises(TypeError, match="beta"):
        ImportanceWeighted(beta=2)


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
