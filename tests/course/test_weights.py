"""The weights that come with the package are what their recipes and logs say, and as good as promised."""

import json
import struct
from pathlib import Path
from statistics import mean

import pytest
import torch
from safetensors.torch import load_file

from cvae_lib import (
    CVAE,
    ImageSet,
    estimate_log_likelihood,
    evaluate,
    load,
    pretrained_names,
)
from cvae_lib.course import dataset_name
from cvae_lib.course.recipes import RECIPES, data_of
from cvae_lib.course.weights import card
from cvae_lib.pretrained import WEIGHTS
from cvae_lib.scores import scores_by_draws

# Nats at the end of training, as the mean over the seeds: running average over the training images, and test set.
PROMISED = {"vae-2d": (141.5, 142.5), "cvae-2d": (129.4, 130.5)}
# Minus log p(x) of the binarised test set, K = 5000: within 1 nat of Burda, Grosse & Salakhutdinov (2016).
PUBLISHED = {"vae-50d": 86.76, "iwae-50d": 85.54}


@pytest.fixture(params=RECIPES)
def name(request) -> str:
    return request.param


@pytest.fixture
def log(name) -> dict:
    return json.loads((WEIGHTS / name / "training.json").read_text())


def binarises(name: str) -> bool:
    return "binarise" in RECIPES[name].fit.get("transform", ())


def stored_log_likelihood(name: str) -> dict:
    return json.loads((WEIGHTS / name / "training.json").read_text())["stored_weights_test_log_likelihood"]


def test_there_are_weights_for_every_recipe_and_none_besides():
    assert pretrained_names() == sorted(RECIPES)
    assert {folder.name for folder in WEIGHTS.iterdir()} == set(RECIPES)


def test_a_folder_holds_weights_in_fp16_their_configuration_and_log_and_no_pickle(name):
    """Read as the format is published: eight bytes of length, then JSON with a type for each tensor, then numbers."""
    files = {"config.json", "model.safetensors", "training.json", "README.md"}
    files |= {"snapshots.safetensors"} if RECIPES[name].snapshots else set()
    files |= {f"seed-{seed}" for seed in RECIPES[name].seeds[1:]} if RECIPES[name].every_seed else set()
    assert {file.name for file in (WEIGHTS / name).iterdir()} == files
    for folder in (WEIGHTS / name).glob("seed-*"):
        assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
        assert (folder / "config.json").read_bytes() == (WEIGHTS / name / "config.json").read_bytes()
        assert load_file(folder / "model.safetensors")["decoder.body.first.weight"].dtype == torch.float16
    content = (WEIGHTS / name / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = [entry for key, entry in header.items() if key != "__metadata__"]
    assert {entry["dtype"] for entry in tensors} == {"F16"}
    assert len(content) == 8 + length + 2 * sum(weight.numel() for weight in CVAE.from_pretrained(name).parameters())


def test_the_configuration_is_the_recipes(name, log):
    recipe = json.loads(json.dumps(RECIPES[name].__dict__))
    config = json.loads((WEIGHTS / name / "config.json").read_text())
    assert config.items() >= recipe["model"].items()
    assert log["recipe"] == recipe


def test_the_log_tells_data_seeds_and_every_epoch(name, log):
    recipe = RECIPES[name]
    train, test = ("train, 60,000", "test") if recipe.split == "train" else ("fit, 50,000", "validation")
    test += " binarised at random" if binarises(name) else ""
    assert log["data"] == [f"MNIST {train} images", f"MNIST {test}, 10,000 images"]
    assert [run["seed"] for run in log["runs"]] == list(recipe.seeds)
    assert log["shipped_seed"] == recipe.seeds[0]
    for run in log["runs"]:
        assert [row["epoch"] for row in run["epochs"]] == list(range(1, recipe.fit["epochs"] + 1))
        assert all(row["seconds"] > 0 for row in run["epochs"])


def test_the_card_is_made_from_the_log_and_says_what_people_ask(name, log):
    """Data, figures, licence, and how to load it; every figure as the log has it."""
    text = (WEIGHTS / name / "README.md").read_text()
    assert text == card(name, log)
    assert text.startswith("---\nlicense: mit\n")
    assert f'CVAE.from_pretrained("{name}")' in text
    assert log["data"][0] in text
    assert f"| {log['stored_weights_test_loss']:.2f} nats an image |" in text
    shipped = next(run for run in log["runs"] if run["seed"] == log["shipped_seed"])
    assert f"| {shipped['epochs'][-1]['loss']:.2f} nats an image |" in text
    for values in shipped.get("accuracy", {}).values():
        assert f"| {100 * values[str(max(map(int, values)))]:.2f} % |" in text
    if "stored_weights_test_log_likelihood" in log:
        assert f"| {stored_log_likelihood(name)['mean']:.2f} nats, standard error" in text


@pytest.mark.parametrize("name", PROMISED)
def test_the_mean_over_the_seeds_is_as_good_as_promised(name, log):
    assert len(log["runs"]) >= 3
    last = [run["epochs"][-1] for run in log["runs"]]
    train, test = PROMISED[name]
    assert mean(row["loss"] for row in last) <= train
    assert mean(row["held_out_loss"] for row in last) <= test


@pytest.mark.slow
def test_the_stored_weights_reach_the_loss_in_their_log(name, log):
    """Within 0.05 nats: the rounding to fp16 is in the log, other draws move the mean of 10,000 images by 0.01."""
    if dataset_name() != "mnist":
        pytest.skip("the log is about MNIST, which this run has not")
    _, test = data_of(RECIPES[name])
    test = test.binarised() if binarises(name) else test
    loss = evaluate(CVAE.from_pretrained(name), test).loss.item()
    assert loss == pytest.approx(log["stored_weights_test_loss"], abs=0.05)
    shipped = next(run for run in log["runs"] if run["seed"] == log["shipped_seed"])
    assert loss == pytest.approx(shipped["epochs"][-1]["held_out_loss"], abs=0.05)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].snapshots])
def test_snapshots_show_a_training_by_the_recipe(name, log):
    """It may be another run than that of the weights: it ends as well as they do, and at codes much like theirs."""
    recipe = RECIPES[name]
    stored = load_file(WEIGHTS / name / "snapshots.safetensors")
    means, terms = stored["means"], stored["terms"]
    assert means.shape == (recipe.fit["epochs"] + 1, recipe.snapshots, recipe.model["latent_dim"])
    assert means.dtype == torch.float16
    assert terms.shape == (recipe.fit["epochs"], 2)
    last = log["runs"][0]["epochs"][-1]
    assert terms[-1].sum() == pytest.approx(last["held_out_loss"], abs=0.5)
    if dataset_name() == "mnist":
        images = load("mnist", "test").images[: recipe.snapshots]
        with torch.no_grad():
            shipped = CVAE.from_pretrained(name).encode(images).loc
        far = (means.float() - shipped).norm(dim=-1).median(-1).values
        assert far[0] > 0.5
        assert far[-1] < 0.15


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_log_likelihood_is_near_the_published_one(name):
    found = stored_log_likelihood(name)
    assert found["num_samples"] == 5000
    assert -found["mean"] <= PUBLISHED[name] + 1


def test_training_on_a_tighter_bound_gives_the_better_log_likelihood():
    assert stored_log_likelihood("iwae-50d")["mean"] >= stored_log_likelihood("vae-50d")["mean"] + 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_stored_log_likelihood_can_be_repeated(name):
    """On 200 images with as many draws; a mean of other images lies within four standard errors."""
    if dataset_name() != "mnist":
        pytest.skip("the log is about MNIST, which this run has not")
    images, labels = load("mnist", "test").binarised()
    subset = ImageSet(images[::50], labels[::50], "every 50th test image")
    values = estimate_log_likelihood(CVAE.from_pretrained(name), subset, 5000)
    assert values.mean().item() == pytest.approx(
        stored_log_likelihood(name)["mean"], abs=4 * values.std().item() / len(subset) ** 0.5
    )


def accuracies_of_seeds(name: str, bound: str, K: int) -> list[float]:
    log = json.loads((WEIGHTS / name / "training.json").read_text())
    return [run["accuracy"][bound][str(K)] for run in log["runs"]]


def test_the_single_classifier_and_the_five_together_are_as_good_as_promised():
    """The bound was chosen on the validation images, by the twin: importance-weighted, 10 draws."""
    found = accuracies_of_seeds("cvae-50d", "importance_weighted", 10)
    assert len(found) == 5
    assert mean(found) >= 0.9915
    parameters = CVAE.from_pretrained("cvae-50d").parameters()
    assert sum(weight.numel() for weight in parameters) <= 1_500_000
    log = json.loads((WEIGHTS / "cvae-50d" / "training.json").read_text())
    assert log["ensemble_accuracy"]["average of scores"]["importance_weighted"]["10"] >= 0.994


def test_the_recipe_trained_again_is_as_accurate_as_what_ships():
    """Other seeds are harder than the same one: all within 0.15 points."""
    shipped, *others = accuracies_of_seeds("cvae-50d", "importance_weighted", 10)
    assert all(other == pytest.approx(shipped, abs=0.0015) for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].accuracy_draws])
def test_logged_accuracies_can_be_repeated(name):
    """On the first 1,000 images of the set in the log, the shipped weights; another sample of it, by (9.5)."""
    if dataset_name() != "mnist":
        pytest.skip("the log is about MNIST, which this run has not")
    _, (images, labels) = data_of(RECIPES[name])
    scores = scores_by_draws(CVAE.from_pretrained(name), images[:1000], (10,))
    for (bound, K), values in scores.items():
        logged = accuracies_of_seeds(name, bound, K)[0]
        error = (logged * (1 - logged) / 1000) ** 0.5
        assert (values.argmax(1) == labels[:1000]).double().mean().item() == pytest.approx(logged, abs=4 * error)


def test_all_weights_together_stay_small():
    """They are part of the wheel and of every clone."""
    assert sum(file.stat().st_size for file in Path(WEIGHTS).rglob("*") if file.is_file()) <= 24e6
