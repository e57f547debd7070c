"""Recipes are data: read, trained, evaluated and stored; what is stored says how it was made."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from toys import numbers, small

from cvae_lib import CVAE, Callback, GenerativeClassifier, estimate_log_likelihood, evaluate, load
from cvae_lib.course import RECIPES, Recipe, recipes
from cvae_lib.course.__main__ import main
from cvae_lib.course.experiments import stored_results
from cvae_lib.course.experiments.ladder import LADDER
from cvae_lib.course.recipes import read_recipes, seeded, start_at_mean, train_recipe
from cvae_lib.course.weights import card, make_weights
from cvae_lib.pretrained import WEIGHTS

# What is read ---------------------------------------------------------------------------------------------------------


def as_json(recipe: Recipe) -> dict:
    return json.loads(json.dumps(recipe.__dict__))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_the_log_of_its_weights_says(name):
    """Every argument of the model, of the training, the seeds and what was logged besides."""
    log = json.loads((WEIGHTS / name / "training.json").read_text())
    assert as_json(RECIPES[name]) == log["recipe"]


def test_the_rungs_of_the_ladder_are_those_of_the_stored_results():
    stored = {row["rung"]: row for row in stored_results("ladder")["rows"]}
    assert list(LADDER) == list(stored)
    for name, rung in stored.items():
        assert as_json(LADDER[name])["model"] == rung["model"]
        assert as_json(LADDER[name])["fit"] == rung["fit"]
        assert (LADDER[name].split, LADDER[name].seeds) == ("fit", [0])


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A file of recipes in place of the real one."""

    def write(text: str) -> dict[str, Recipe]:
        (tmp_path / "recipes.toml").write_text(text)
        monkeypatch.setattr(recipes, "__file__", str(tmp_path / "recipes.py"))
        return read_recipes("weights")

    return write


def test_like_takes_over_what_is_not_written_again_and_leaves_the_other_as_it_is(written):
    read = written(
        """
        [weights.first]
        model = {pixels = 784, latent_dim = 2}
        fit = {epochs = 15, transform = ["binarise"]}
        snapshots = 500
        seeds = [3]

        [weights.second]
        like = "first"
        model = {latent_dim = 5, num_labels = 10}
        split = "fit"

        [weights.third]
        like = "second"
        fit = {epochs = 1, transform = ["shift"]}
        snapshots = 0
        """
    )
    model, fit = {"pixels": 784, "latent_dim": 2}, {"epochs": 15, "transform": ["binarise"]}
    assert read["first"] == Recipe(model, fit, [3], snapshots=500)
    model = model | {"latent_dim": 5, "num_labels": 10}
    assert read["second"] == Recipe(model, fit, [3], split="fit", snapshots=500)
    assert read["third"] == Recipe(model, {"epochs": 1, "transform": ["shift"]}, [3], split="fit", snapshots=0)


@pytest.mark.parametrize(
    ("text", "error"), [("[weights.a]\nmodel = {pixels = 4}\ncolour = 3", "colour"), ("[ladder.a]", "weights")]
)
def test_a_file_of_recipes_with_a_fault_is_not_read(written, text, error):
    with pytest.raises((TypeError, KeyError), match=error):
        written(text)


# How it is trained ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch) -> str:
    """A recipe that takes no time, on the embedded digits."""
    model = {"pixels": 784, "hidden_sizes": (4,), "num_labels": 10}
    recipe = Recipe(model=model, fit={"epochs": 2}, seeds=(3, 4), dataset="digits")
    monkeypatch.setitem(RECIPES, "tiny", recipe)
    return "tiny"


def test_objective_and_transforms_are_named(tiny, monkeypatch):
    data = load("digits", "test")
    for arguments, message in (
        ({"objective": "iwae"}, "Unknown objective 'iwae'; known: elbo, importance_weighted"),
        ({"transform": ["blur"]}, "Unknown transform 'blur'; known: binarise, shift, jitter"),
    ):
        with pytest.raises(ValueError, match=message):
            train_recipe(Recipe(RECIPES[tiny].model, {"epochs": 1} | arguments), 0, data, None)


def test_a_recipe_names_the_importance_weighted_objective(tiny):
    """With five draws it leaves other weights than the ELBO with five draws, and reports the ELBO all the same."""
    data = load("digits", "test")
    found = []
    for objective in ("elbo", "importance_weighted"):
        recipe = Recipe(RECIPES[tiny].model, {"epochs": 2, "num_samples": 5, "objective": objective})
        model, history = train_recipe(recipe, 0, data, data)
        found.append(model.decoder.body.rest[-1].bias)
        assert history[-1].held_out_loss == pytest.approx(evaluate(model, data).loss.item())
    assert not torch.equal(*found)


def test_a_seed_gives_the_same_training_and_leaves_torchs_state(tiny):
    data, state = load("digits", "test"), torch.get_rng_state()
    (one, history), (again, _), (other, _) = (train_recipe(tiny, seed, data, None) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.encoder.body.first.weight for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert len(history) == 2


def test_callbacks_of_a_recipe_watch_it(tiny):
    seen = []

    class Watcher(Callback):
        def on_epoch(self, training):
            seen.append(training.epoch)

    train_recipe(tiny, 0, load("digits", "test"), None, callbacks=[Watcher()])
    assert seen == [1, 2]


def test_what_is_seeded_repeats_itself_and_leaves_the_state_as_it_was():
    state = torch.get_rng_state()
    draws = []
    for seed in (1, 1, 2):
        with seeded(seed):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_labels", [0, 3])
def test_the_decoder_starts_at_the_mean_image(num_labels):
    """With the last layer's weights at 0 the bias is all there is; black and white pixels stay inside (0, 1)."""
    model = CVAE(4, (5,), 2, num_labels)
    images = torch.tensor([[0.0, 1.0, 0.25, 0.5], [0.0, 1.0, 0.75, 0.7]])
    start_at_mean(model, images)
    torch.nn.init.zeros_(model.decoder.body.rest[-1].weight)
    drawn = model.sample(2, 1 if num_labels else None)
    torch.testing.assert_close(drawn, torch.tensor([0.001, 0.999, 0.5, 0.6]).expand(2, 4))


def test_a_start_at_the_mean_needs_images_that_fit_and_a_bias_for_each_pixel():
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 16\); got \(2, 9\)"):
        start_at_mean(small(), torch.rand(2, 9))
    with pytest.raises(ValueError, match="one last bias for each pixel, such as the body 'mlp'"):
        start_at_mean(CVAE(16, (4, 8), body="convolutional"), torch.rand(2, 16))


# What is stored -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_making_weights_stores_the_first_seed_and_the_log_of_all(tiny, tmp_path):
    make_weights(tiny, tmp_path)
    log = json.loads((tmp_path / tiny / "training.json").read_text())
    assert log["data"] == ["embedded digits train, 1,500 images", "embedded digits test, 297 images"]
    assert [run["seed"] for run in log["runs"]] == [3, 4]
    assert log["shipped_seed"] == 3
    assert len(log["runs"][0]["epochs"]) == 2
    assert (tmp_path / tiny / "README.md").read_text() == card(tiny, log)

    again, history = train_recipe(tiny, 3, load("digits", "train"), load("digits", "test"))
    for logged, row in zip(log["runs"][0]["epochs"], numbers(history), strict=True):
        assert list(logged.values())[:-1] == [pytest.approx(value, abs=5.1e-5) for value in row]
    stored = CVAE.from_pretrained(tmp_path / tiny)
    for name, weight in stored.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name].half().float())
    assert log["stored_weights_test_loss"] == pytest.approx(evaluate(stored, load("digits", "test")).loss.item())


@pytest.mark.slow
def test_a_recipe_that_binarises_is_tested_on_binarised_images_and_evaluated(tiny, tmp_path, monkeypatch):
    fit_arguments = {
        "epochs": 1,
        "transform": ("shift", "binarise"),
        "objective": "importance_weighted",
        "num_samples": 2,
    }
    recipe = Recipe(RECIPES[tiny].model, fit_arguments, seeds=(0,), dataset="digits", evaluation_samples=3)
    monkeypatch.setitem(RECIPES, tiny, recipe)
    make_weights(tiny, tmp_path)
    log = json.loads((tmp_path / tiny / "training.json").read_text())
    assert log["data"][1] == "embedded digits test binarised at random, 297 images"
    assert log["recipe"]["fit"]["transform"] == ["shift", "binarise"]
    found = log["stored_weights_test_log_likelihood"]
    values = estimate_log_likelihood(CVAE.from_pretrained(tmp_path / tiny), load("digits", "test").binarised(), 3)
    assert found["num_samples"] == 3
    assert found["mean"] == pytest.approx(values.mean().item())
    assert found["standard_error"] == pytest.approx(values.std().item() / 297**0.5)


@pytest.mark.slow
def test_a_recipe_may_ship_every_seed_and_log_how_they_classify_alone_and_together(tiny, tmp_path, monkeypatch):
    model = RECIPES[tiny].model
    recipe = Recipe(model, {"epochs": 2}, (3, 4), dataset="digits", split="fit", every_seed=True, accuracy_draws=(1, 2))
    monkeypatch.setitem(RECIPES, tiny, recipe)
    make_weights(tiny, tmp_path)
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
    model, _ = train_recipe(tiny, 3, data, load("digits", "test"))
    mean = data.images.mean(0).clamp(0.001, 0.999)
    torch.testing.assert_close(model.decoder.body.rest[-1].bias.sigmoid(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_snapshots_are_the_posterior_means_of_the_first_seed_epoch_by_epoch(tiny, tmp_path, monkeypatch):
    recipe = Recipe({"pixels": 784, "hidden_sizes": (4,)}, {"epochs": 2}, seeds=(3, 4), dataset="digits", snapshots=7)
    monkeypatch.setitem(RECIPES, tiny, recipe)
    make_weights(tiny, tmp_path)
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
    trained, _ = train_recipe(tiny, 3, load("digits", "train"), load("digits", "test"))
    assert torch.equal(means[0], untrained.encode(images).loc.detach().half())
    assert torch.equal(means[2], trained.encode(images).loc.detach().half())
    assert not torch.equal(means[1], means[2])


def test_an_unknown_recipe_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CVAE_DATA", "no/such/folder")  # the name comes first
    message = f"Unknown recipe 'vae-3d'; known: {', '.join(RECIPES)}"
    with pytest.raises(ValueError, match=message):
        make_weights("vae-3d", tmp_path)
    monkeypatch.setattr(sys, "argv", ["cvae_lib", "weights", "vae-3d"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
