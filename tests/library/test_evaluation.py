"""What is measured on a data set: averages over images, whatever the batches, threads and seeds around them."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from toys import loss_by_hand, noise, numbers, small, without_width

from cvae_lib import estimate_log_likelihood, evaluate, fit


def test_evaluate_averages_over_images_however_they_are_cut():
    """(1.14), by the plain mean over images."""
    model = without_width(3)
    terms = evaluate(model, noise(), batch_size=32)
    assert terms.loss.item() == pytest.approx(sum(loss_by_hand(model, noise())), rel=1e-6)
    assert evaluate(small(), noise()).loss == evaluate(small(), noise()).loss != evaluate(small(), noise(), seed=1).loss


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


def in_eight_threads(call) -> list:
    """What eight calls at the same time return."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: call(), range(8)))


def test_eight_threads_get_the_value_of_one():
    """Every call draws from a generator of its own; a seed of all threads together would be drawn from by all."""
    model, data = small(3), noise(3_000)
    alone = evaluate(model, data, batch_size=100).loss.item()
    together = in_eight_threads(lambda: evaluate(model, data, batch_size=100).loss.item())
    assert together == [alone] * 8


def test_eight_trainings_at_the_same_time_are_the_same_training():
    initial = small(3)

    def train():
        return numbers(fit(deepcopy(initial), noise(), epochs=3, batch_size=16, held_out=noise(40), quiet=True))

    assert in_eight_threads(train) == [train()] * 8


@pytest.mark.parametrize(
    "call",
    [
        lambda model: fit(model, noise(), epochs=1, held_out=noise(40), transform=torch.bernoulli),
        lambda model: evaluate(model, noise()),
        lambda model: estimate_log_likelihood(model, noise(), 3),
    ],
)
def test_torchs_own_random_state_is_neither_used_nor_changed(call):
    torch.manual_seed(3)
    state, results = torch.get_rng_state(), []
    for seed in (3, 4):
        torch.manual_seed(seed)
        found = call(small())
        results.append(numbers(found) if isinstance(found, list) else [value.tolist() for value in found])
        if seed == 3:
            assert torch.equal(torch.get_rng_state(), state)
    assert results[0] == results[1]
