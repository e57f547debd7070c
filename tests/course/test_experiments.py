"""The long experiments of chapter 10: what they do, on little data, and what their stored results hold."""

import json
import sys
from functools import partial

import pytest
import torch

from cvae_lib import CVAE, ImageSet, evaluate, load, log_likelihood_by_quadrature
from cvae_lib.course import RECIPES, Recipe, experiments
from cvae_lib.course.__main__ import main
from cvae_lib.course.experiments import (
    attacks,
    collapse,
    discriminative,
    empty_page,
    few_labels,
    ladder,
    overfitting,
    registry,
    tightness,
)
from cvae_lib.course.recipes import data_of, train_recipe
from cvae_lib.scores import scores_by_draws

STORED = {file.stem for file in experiments.RESULTS.glob("*.json")}
UNFINISHED = {"few-labels", "collapse", "overfitting", "planes", "tightness"}
TINY = Recipe({"pixels": 784, "hidden_sizes": (8,), "num_labels": 10}, {"epochs": 2}, dataset="digits", split="fit")


def test_a_few_of_each_are_drawn_without_replacement_and_by_the_seed():
    data = load("digits", "train")
    few = few_labels.some_of_each(data, 7, seed=0)
    assert few.labels.bincount().tolist() == [7] * 10
    rows = {tuple(image.tolist()) for image in few.images}
    assert len(rows) == 70
    assert rows <= {tuple(image.tolist()) for image in data.images}
    assert torch.equal(few.images, few_labels.some_of_each(data, 7, seed=0).images)
    assert not torch.equal(few.images, few_labels.some_of_each(data, 7, seed=1).images)
    assert all(len(image.unique()) > 1 for image in few.images)


def test_images_drawn_keep_their_labels():
    """Every image says its own label."""
    labels = torch.arange(40) % 4
    data = ImageSet(labels[:, None] / 4 + torch.zeros(40, 3), labels, "said")
    few = few_labels.some_of_each(data, 5, seed=0)
    assert torch.equal((4 * few.images[:, 0]).long(), few.labels)


@pytest.mark.slow
def test_the_discriminative_network_learns_and_repeats_itself_and_has_the_layers_of_the_encoder():
    data, test = load("digits", "train"), load("digits", "test")
    state = torch.random.get_rng_state()
    network = discriminative.train_discriminative(data, epochs=15)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (network(test.images).argmax(-1) == test.labels).float().mean() > 0.85
    again = discriminative.train_discriminative(data, epochs=15)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    encoder = CVAE(**RECIPES["cvae-50d"].model).encoder.body
    assert network.first.weight.shape == encoder.first.weight.shape
    assert network.rest[1].weight.shape == encoder.rest[1].weight.shape
    assert network.rest[-1].out_features == 10


@pytest.mark.slow
def test_the_ladder_says_which_images_each_rung_misreads(monkeypatch):
    monkeypatch.setattr(ladder, "LADDER", {"tiny": TINY})
    monkeypatch.setattr(ladder, "MARGIN_IMAGES", 100)
    rung = ladder.climb("tiny")
    train, validation = data_of(TINY)
    model, history = train_recipe(TINY, 0, train, validation)
    scores = scores_by_draws(model, validation.images, (1, 10, 100))
    assert len(rung["wrong"]) == 6
    for which, wrong in rung["wrong"].items():
        bound, K = which.split()
        is_wrong = scores[bound, int(K)].argmax(1) != validation.labels
        assert wrong == is_wrong.nonzero().flatten().tolist()
        assert rung["accuracy"][bound][K] == pytest.approx(1 - len(wrong) / len(validation))
    assert rung["weights"] == sum(weight.numel() for weight in model.parameters())
    assert rung["validation_loss"] == pytest.approx(history[-1].held_out_loss, abs=1e-3)


@pytest.mark.slow
def test_few_labels_trains_by_the_recipe_and_tests_on_the_test_images():
    found = few_labels.few_labels("generative", 3, 4, draw=1, dataset="digits")
    test, few = load("digits", "test"), few_labels.some_of_each(load("digits", "train"), 3, seed=1)
    arguments = RECIPES["cvae-50d"].fit | {"epochs": 20, "batch_size": 30}
    model, _ = train_recipe(Recipe(RECIPES["cvae-50d"].model, arguments, start_at_mean=True), 1, few, None)
    expected = (scores_by_draws(model, test.images, (5,))["elbo", 5].argmax(1) == test.labels).double().mean()
    assert found["accuracy"] == pytest.approx(expected.item())
    network = discriminative.train_discriminative(few, epochs=20, batch_size=30, seed=1)
    expected = (network(test.images).argmax(1) == test.labels).double().mean()
    found = few_labels.few_labels("discriminative", 3, 4, draw=1, dataset="digits")
    assert found["accuracy"] == pytest.approx(expected.item())


@pytest.mark.slow
def test_dropout_acts_in_training_only_and_changes_what_is_learned():
    data = load("digits", "train")
    for made in few_labels.NETWORKS.values():
        plain = discriminative.train_discriminative(data, epochs=1, network=made)
        dropped = discriminative.train_discriminative(data, epochs=1, network=partial(made, dropout=(0.2, 0.5)))
        x = data.images[:50]
        assert torch.equal(dropped(x), dropped(x))
        assert not torch.equal(dropped.train()(x), dropped(x))
        assert sum(w.numel() for w in plain.parameters()) == sum(w.numel() for w in dropped.parameters())


def test_the_regularisation_is_the_best_one_on_validation_images(monkeypatch):
    rows = [
        {"network": network, "per_class": n, "dropout": list(dropout), "weight_decay": decay, "accuracy": accuracy}
        for network, n, dropout, decay, accuracy in (
            ("fully connected", 10, (0.0, 0.0), 0.0, 0.8),
            ("fully connected", 10, (0.2, 0.5), 0.0, 0.9),
            ("fully connected", 100, (0.2, 0.5), 0.05, 0.7),
            ("convolutional", 10, (0.0, 0.0), 0.05, 0.99),
        )
    ]
    monkeypatch.setattr(few_labels, "stored_results", lambda name: {"rows": rows})
    assert few_labels.chosen("fully connected", 10) == ((0.2, 0.5), 0.0)
    assert few_labels.chosen("fully connected", 30) == ((0.2, 0.5), 0.0)
    assert few_labels.chosen("fully connected", 300) == ((0.2, 0.5), 0.05)
    assert few_labels.chosen("convolutional", 2) == ((0.0, 0.0), 0.05)


def test_initial_weights_that_keep_the_signal_have_variance_two_over_n():
    """He and others (2015): what passes through ReLU keeps its size; PyTorch's own weights have 1 / (3 n)."""
    torch.manual_seed(0)
    model = CVAE(784, collapse.DEEP, 8)
    hidden = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer.out_features == 200]
    assert len(hidden) == 8
    before = [layer.weight.var().item() * layer.in_features for layer in hidden]
    assert before == pytest.approx([1 / 3] * 8, rel=0.1)
    collapse.keep_the_signal(model)
    after = [layer.weight.var().item() * layer.in_features for layer in hidden]
    assert after == pytest.approx([2] * 8, rel=0.1)


def test_a_network_is_looked_at_after_every_epoch_and_what_is_done_to_it_ends_when_asked():
    settings = {"dataset": "digits", "seed": 0, "hidden_sizes": (16,)}
    both = collapse.train_and_watch(**settings, epochs=4, free_bits=3.0, until=2)
    alone = collapse.train_and_watch(**settings, epochs=2, free_bits=3.0)
    never = collapse.train_and_watch(**settings, epochs=2)
    for name in ("reconstruction", "kl", "active", "above_a_tenth"):
        assert len(both[name]) == 4
        assert both[name][:2] == pytest.approx(alone[name], rel=1e-3)  # the second look has other draws
    assert never["kl"] != alone["kl"]
    kept = collapse.train_and_watch(**settings, epochs=4, free_bits=3.0)
    assert kept["kl"][:2] == both["kl"][:2]
    assert kept["kl"][2:] != both["kl"][2:]


def test_a_sweep_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    """Every row is stored as soon as it is there, in the order of the settings, and none is run twice."""
    asked = []

    def run(number, power):
        asked.append(number)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"value": number**power}

    settings = [{"number": number, "power": 2} for number in (3, 1, 2)]
    with pytest.raises(KeyboardInterrupt):
        experiments.run_missing("powers", settings, run, tmp_path)
    experiments.run_missing("powers", [*settings, {"number": 1, "power": 3}], run, tmp_path)
    assert asked == [3, 1, 1, 2, 1]
    rows = json.loads((tmp_path / "powers.json").read_text())["rows"]
    assert [(row["number"], row["power"], row["value"]) for row in rows] == [(3, 2, 9), (1, 2, 1), (2, 2, 4), (1, 3, 1)]
    assert [file.name for file in tmp_path.iterdir()] == ["powers.json"]


@pytest.mark.slow
def test_one_reconstruction_is_the_score_of_the_classifier_with_noise_of_its_own_for_every_label():
    data = load("digits", "test")
    model, _ = train_recipe(TINY, 0, load("digits", "fit"), None)
    x = data.images[:5]
    draws = torch.stack([ladder.one_reconstruction(model, x, seed) for seed in range(2000)])
    shared = scores_by_draws(model, x, (2000,))["reconstruction", 2000]
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - shared).abs() < 6 * error).all()
    # Independent labels do not vary together: the correlation of 2,000 pairs is 0.02 or so.
    assert all(torch.corrcoef(draws[:, n].T).fill_diagonal_(0).abs().max() < 0.12 for n in range(5))


@pytest.mark.slow
def test_margin_and_noise_are_those_of_the_true_label_and_its_best_rival():
    data = load("digits", "test")
    model, _ = train_recipe(TINY, 0, load("digits", "fit"), None)
    x, y = data.images[:20], data.labels[:20]
    margin, noise = ladder.margin_and_noise(model, x, y, rounds=5)
    bound = scores_by_draws(model, x, (10,))["elbo", 10]
    draws = [ladder.one_reconstruction(model, x, seed) for seed in range(5)]
    margins, noises = [], []
    for n, label in enumerate(y.tolist()):
        rival = max((c for c in range(10) if c != label), key=lambda c: bound[n, c].item())
        margins.append((bound[n, label] - bound[n, rival]).item())
        noises.append(torch.stack([draw[n, label] - draw[n, rival] for draw in draws]).std().item())
    assert margin == pytest.approx(sum(margins) / 20, rel=1e-4)
    assert noise == pytest.approx(sum(noises) / 20, rel=1e-4)


def test_the_smallest_change_of_a_linear_classifier_is_the_distance_to_its_border():
    """Two labels, scores w.x and 0: the border is |w.x| / |w|_2 away, or |w.x| / |w|_1 by the largest pixel."""
    network = torch.nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, -4.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    x = torch.tensor([[0.5, 0.4, 0.5, 0.5], [0.45, 0.6, 0.5, 0.5]])
    y = network(x).argmax(1)
    assert y.tolist() == [0, 0]
    w = network.weight[0].detach()
    for attack, norm in attacks.ATTACKS.values():
        dual = 2 if norm == 2 else 1
        changed, sizes = attacks.smallest_changes(network, x, y, attack(steps=200), norm)
        assert (network(changed).argmax(1) == 1).all()
        assert sizes.tolist() == pytest.approx((x @ w / torch.linalg.vector_norm(w, dual)).tolist(), rel=0.05)
        assert torch.linalg.vector_norm(changed - x, norm, 1).tolist() == pytest.approx(sizes.tolist())


def test_a_change_that_does_not_fool_is_infinitely_large():
    network = torch.nn.Linear(4, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([1.0, 0.0]))
    attack, norm = attacks.ATTACKS["L2"]
    _, sizes = attacks.smallest_changes(network, torch.full((3, 4), 0.5), torch.zeros(3).long(), attack(), norm)
    assert sizes.isinf().all()


@pytest.mark.slow
def test_the_opponents_are_tested_and_attacked():
    rows = attacks.opponent("digits", epochs=(2, 20), victims=5)["rows"]
    test = load("digits", "test")
    assert [row["epochs"] for row in rows] == [2, 20]
    for row in rows:
        network = discriminative.train_discriminative(load("digits", "train"), epochs=row["epochs"])
        is_right = network(test.images).argmax(1) == test.labels
        assert row["accuracy"] == pytest.approx(is_right.double().mean().item())
        assert 0 < row["Linf"] < row["L2"] < torch.inf


def test_every_image_is_judged_by_the_model_that_has_seen_it_and_by_the_other(monkeypatch):
    """Images that are known by their one white pixel, and models that only remember which they have seen."""
    data = ImageSet(torch.eye(40), torch.zeros(40, dtype=torch.int64), "marked")
    monkeypatch.setattr(overfitting, "load", lambda *_: data)
    monkeypatch.setattr(overfitting, "train_recipe", lambda name, seed, half, test: (half.images.sum(0), None))

    def judge(seen, x):
        was_seen = (x @ seen).bool()
        return torch.where(was_seen, 3.0, 1.0), torch.where(was_seen, 0.5, 1.0)

    monkeypatch.setattr(overfitting, "exact_and_gap", judge)
    found = overfitting.seen_and_unseen(0, judged=30)
    assert [found[name] for name in ("images", "elbo", "decoder", "encoder")] == [30, 2.5, 2.0, 0.5]
    assert [found[name] for name in ("elbo_error", "decoder_error", "encoder_error")] == [0, 0, 0]
    assert found["gap_median"] == [0.5, 1.0]


def test_the_gap_is_what_the_elbo_lacks():
    """The parts of (6.6): the ELBO by `evaluate` and the gap add up to log p(x), up to the noise of the draws."""
    model, _ = train_recipe(Recipe(TINY.model | {"num_labels": 0}, TINY.fit), 0, load("digits", "fit"), None)
    test = load("digits", "test").binarised()
    log_p, gap = overfitting.exact_and_gap(model, test.images, num_samples=100)
    assert torch.equal(log_p, log_likelihood_by_quadrature(model, test.images))
    elbo = -evaluate(model, test, num_samples=100, seed=1).loss
    assert (log_p - gap).mean() == pytest.approx(elbo.item(), abs=0.3)
    assert gap.mean() > 0


@pytest.mark.parametrize("name", registry.EXPERIMENTS)
def test_results_are_stored_and_read_back(name, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.EXPERIMENTS, name, lambda: {"rows": [1]})
    registry.make_results(name, tmp_path / "results")
    assert json.loads((tmp_path / "results" / f"{name}.json").read_text()) == {"rows": [1]}


@pytest.mark.parametrize("name", [name for name in registry.SWEEPS if name in STORED])
def test_stored_rows_are_those_that_the_sweep_asks_for(name):
    """Each once; a sweep that is not finished may lack some."""
    settings = json.loads(json.dumps(registry.SWEEPS[name][0]))
    rows = [{key: row[key] for key in settings[0]} for row in experiments.stored_results(name)["rows"]]
    assert all(row in settings for row in rows)
    assert all(rows.count(row) == 1 for row in rows)
    assert name in UNFINISHED or rows == settings


def test_the_stored_ladder_is_that_of_the_recipes_and_agrees_with_itself():
    for rung in experiments.stored_results("ladder")["rows"]:
        recipe = ladder.LADDER[rung["rung"]]
        assert rung["model"] == json.loads(json.dumps(recipe.model))
        assert rung["fit"] == json.loads(json.dumps(recipe.fit))
        assert rung["weights"] == sum(weight.numel() for weight in CVAE(**recipe.model).parameters())
        for which, wrong in rung["wrong"].items():
            bound, K = which.split()
            assert rung["accuracy"][bound][K] == pytest.approx(1 - len(wrong) / 10_000)


def test_the_searched_q_finds_what_quadrature_knows_and_draws_from_the_encoder_do_not():
    """(6.3) for an empty page, in the plane, where the integral can be summed; labels with one hill."""
    model, labels = CVAE.from_pretrained("cvae-2d"), torch.tensor([1, 3, 8])
    page = torch.zeros(1, 1, 784)
    exact = log_likelihood_by_quadrature(model, page, labels)[0].float()
    found = {}
    for name, q in (("search", empty_page.search(model, page, labels, starts=12)), ("encoder", None)):
        log_w = empty_page.log_weights(model, page, labels, 2000, q)
        assert log_w.shape == (2000, 1, 3)
        found[name] = empty_page.bounds(log_w, 1000).mean(0)[0]
    assert (found["search"] - exact).abs().max() < 0.3
    assert (found["encoder"] < exact - 10).all(), "it never saw a page without ink"


def test_a_digit_is_wiped_off_from_below():
    images = load("digits", "test").sample(20, seed=0).images
    for kept in (1.0, 0.5, 0.25):
        left = empty_page.wiped(images, kept)
        assert (left.sum(1) <= kept * images.sum(1) + 1e-3).all()
        lines = left.unflatten(1, (28, 28)).sum(2)
        whole = images.unflatten(1, (28, 28)).sum(2)
        for mine, its in zip(lines, whole, strict=True):
            last = (mine > 0).nonzero().max().item() if mine.any() else -1
            torch.testing.assert_close(mine[: last + 1], its[: last + 1])
    assert torch.equal(empty_page.wiped(images, 1.0), images)
    assert [empty_page.dash(length).sum().item() for length in (0, 2, 20)] == [0, 4, 40]


def test_the_page_and_the_digits_are_looked_at_in_the_same_way():
    row = empty_page.empty_page("cvae-2d", "digits", images=4, draws=10_000, steps=30)
    test = load("digits", "test").sample(4, seed=0)
    assert row["digits"]["label"] == test.labels.tolist()
    assert row["digits"]["ink"] == pytest.approx(test.images.sum(1).tolist(), abs=0.01)
    for how in ("encoder", "search"):
        assert [found["K"] * found["times"] for found in row[how]] == [10_000] * 4
        assert all(sum(found["read_as"]) == found["times"] for found in row[how])
    exact = torch.tensor(row["quadrature"]["digits"])
    assert (torch.tensor(row["digits"]["search"]) < exact + 1).all(), "a bound, but for its noise"


def test_the_expectations_of_the_bounds_are_ordered_when_all_have_the_same_draws():
    """(9.8): the mean of bounds with more draws each is higher; that of one draw each is the ELBO."""
    model, test = CVAE.from_pretrained("cvae-2d"), load("digits", "test").sample(30, seed=0)
    scores = tightness.many_draws(model, test.images, test.labels[:, None])
    means = {name: values.mean().item() for name, values in scores.items()}
    order = [means[f"importance_weighted {K}"] for K in (1, 10, 100, 1000)]
    assert order == sorted(order)
    assert order[0] == pytest.approx(means["elbo"], abs=0.5)


def test_images_that_are_plain_keep_the_answer_of_ten_draws_and_the_others_get_many(monkeypatch):
    monkeypatch.setattr(tightness, "DRAWS", 1000)
    model, test = CVAE.from_pretrained("cvae-2d"), load("digits", "test").sample(40, seed=0)
    found = tightness.wrong_by_bound(model, test.images, test.labels, repeats=2)
    few = scores_by_draws(model, test.images, (1, 10), seed=0)
    assert 0 < found["close"] <= 40
    for bound in ("elbo", "importance_weighted"):
        wrong = (few[bound, 10].argmax(1) != test.labels).sum().item()
        assert found["few"][0][f"{bound} 10"] == wrong
    assert all(set(wrong) <= set(range(40)) for wrong in found["many"].values())


def test_an_unknown_experiment_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    message = f"Unknown experiment 'stairs'; known: {', '.join([*registry.EXPERIMENTS, *registry.SWEEPS])}"
    with pytest.raises(ValueError, match=message):
        registry.make_results("stairs", tmp_path)
    with pytest.raises(ValueError, match=r"Unknown experiment 'stairs'; known: .*opponent"):
        experiments.stored_results("stairs")
    monkeypatch.setattr(sys, "argv", ["cvae_lib", "results", "stairs"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
