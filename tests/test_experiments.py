"""The long experiments of chapter 10: what they do, on little data, and what their stored results hold."""

import json
import sys

import pytest
import torch

from cvae_lib import CVAE, RECIPES, ImageSet, Recipe, experiments, load
from cvae_lib.__main__ import main
from cvae_lib.classifier import scores_by_draws
from cvae_lib.recipes import data_of, train_recipe

TINY = Recipe({"pixels": 784, "hidden_sizes": (8,), "num_labels": 10}, {"epochs": 2}, dataset="digits", split="fit")


def test_a_few_of_each_are_drawn_without_replacement_and_by_the_seed():
    data = load("digits", "train")
    few = experiments.some_of_each(data, 7, seed=0)
    assert few.labels.bincount().tolist() == [7] * 10
    rows = {tuple(image.tolist()) for image in few.images}
    assert len(rows) == 70
    assert rows <= {tuple(image.tolist()) for image in data.images}
    assert torch.equal(few.images, experiments.some_of_each(data, 7, seed=0).images)
    assert not torch.equal(few.images, experiments.some_of_each(data, 7, seed=1).images)
    assert all(len(image.unique()) > 1 for image in few.images)


def test_images_drawn_keep_their_labels():
    """Every image says its own label."""
    labels = torch.arange(40) % 4
    data = ImageSet(labels[:, None] / 4 + torch.zeros(40, 3), labels, "said")
    few = experiments.some_of_each(data, 5, seed=0)
    assert torch.equal((4 * few.images[:, 0]).long(), few.labels)


def test_the_discriminative_network_learns_and_repeats_itself_and_has_the_layers_of_the_encoder():
    data, test = load("digits", "train"), load("digits", "test")
    state = torch.random.get_rng_state()
    network = experiments.train_discriminative(data, epochs=15)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (network(test.images).argmax(-1) == test.labels).float().mean() > 0.85
    again = experiments.train_discriminative(data, epochs=15)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    encoder = CVAE(**RECIPES["cvae-50d"].model).encoder.body
    assert network.first.weight.shape == encoder.first.weight.shape
    assert network.rest[1].weight.shape == encoder.rest[1].weight.shape
    assert network.rest[-1].out_features == 10


def test_the_ladder_says_which_images_each_rung_misreads(monkeypatch):
    monkeypatch.setattr(experiments, "LADDER", {"tiny": TINY})
    rung = experiments.ladder()["rungs"]["tiny"]
    train, validation = data_of(TINY)
    model, history = train_recipe(TINY, 0, train, validation)
    scores = scores_by_draws(model, validation.images, (1, 10))
    for which, wrong in rung["wrong"].items():
        bound, K = which.split()
        is_wrong = scores[bound, int(K)].argmax(1) != validation.labels
        assert wrong == is_wrong.nonzero().flatten().tolist()
        assert rung["accuracy"][bound][K] == pytest.approx(1 - len(wrong) / len(validation))
    assert rung["weights"] == sum(weight.numel() for weight in model.parameters())
    assert rung["validation_loss"] == pytest.approx(history[-1].held_out_loss, abs=1e-3)


def test_few_labels_tests_both_classifiers_for_every_draw():
    rows = experiments.few_labels("digits", (2, 3), draws=2, steps=4)["rows"]
    assert [(row["per_class"], row["draw"]) for row in rows] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert all(0 <= row[kind] <= 1 for row in rows for kind in ("generative", "discriminative"))
    assert all(min(row["seconds"]) >= 0 for row in rows)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_results_are_stored_and_read_back(name, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, name, lambda: {"rows": [1]})
    experiments.make_results(name, tmp_path / "results")
    assert json.loads((tmp_path / "results" / f"{name}.json").read_text()) == {"rows": [1]}


def test_the_stored_ladder_is_that_of_the_recipes_and_agrees_with_itself():
    rungs = experiments.stored_results("ladder")["rungs"]
    assert list(rungs) == list(experiments.LADDER)
    for name, rung in rungs.items():
        recipe = experiments.LADDER[name]
        assert rung["model"] == json.loads(json.dumps(recipe.model))
        assert rung["fit"] == json.loads(json.dumps(recipe.fit))
        assert rung["weights"] == sum(weight.numel() for weight in CVAE(**recipe.model).parameters())
        for which, wrong in rung["wrong"].items():
            bound, K = which.split()
            assert rung["accuracy"][bound][K] == pytest.approx(1 - len(wrong) / 10_000)


def test_the_stored_results_with_few_labels_hold_five_draws_of_every_number():
    rows = experiments.stored_results("few-labels")["rows"]
    expected = [(per_class, draw) for per_class in experiments.LABELS_PER_CLASS for draw in range(5)]
    assert [(row["per_class"], row["draw"]) for row in rows] == expected


def test_an_unknown_experiment_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    message = "Unknown experiment 'stairs'; known: ladder, few-labels"
    for use in (experiments.stored_results, experiments.make_results):
        with pytest.raises(ValueError, match=message):
            use("stairs")
    monkeypatch.setattr(sys, "argv", ["cvae_lib", "results", "stairs"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
