"""What the pages run is what the library has: the script files with weights, codes, a training and a histogram."""

import base64
import gzip
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from live import CLASSIFIER, EXPLORER, FETCHED, PLANES, RUN, exported, numbers
from safetensors.torch import load_file

from cvae_lib import CVAE, GenerativeClassifier, load
from cvae_lib.course import dataset_name
from cvae_lib.course.export import EXPORTED, NUM_CODES, base64_halves, export, network
from cvae_lib.pretrained import WEIGHTS

LIMITS = {
    "vae-plane": 1.3e6,
    "cvae-plane": 1.3e6,
    "training-replay": 100e3,
    "digit-classifier": 3.3e6,
}  # bytes, gzipped


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is exported now, from MNIST."""
    if dataset_name() != "mnist":
        pytest.skip("codes, replay and histogram are of MNIST, which this run has not")
    folder = tmp_path_factory.mktemp("export")
    for name in EXPORTED:
        export(name, folder)
    return folder


def test_the_pages_run_the_weights_of_the_library() -> None:
    parts = {f"{name}.{part}" for name in EXPORTED for part in EXPORTED[name]}
    assert {path.stem for path in (EXPLORER / "weights").iterdir()} == parts
    for name in EXPORTED:
        model = CVAE.from_pretrained(name)
        digest = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
        for part in EXPORTED[name]:
            content = exported(f"{name}.{part}")
            found = (content.pop("weights"), content.pop("sha256"))
            assert found == (name, digest), "run `make weights` or its last step"
            if part in ("encoder", "decoder"):
                assert content == network(getattr(model, part).body)


@pytest.mark.parametrize("part", [f"{name}.{part}" for name in EXPORTED for part in EXPORTED[name] if "coder" in part])
def test_an_exported_network_holds_its_numbers_layer_by_layer(part: str) -> None:
    """Read back without the exporting code, as the page does."""
    name, which = part.split(".")
    content, state = exported(part), getattr(CVAE.from_pretrained(name), which).body.state_dict()
    found, at = numbers(content), 0
    for key in [key for key in state if key.endswith("weight") and key != "label_bias.weight"]:
        bias = state["label_bias.weight" if key == "first.weight" and content["labels"] else key[:-6] + "bias"]
        for tensor in (state[key].T, bias):
            assert np.array_equal(found[at : at + tensor.numel()], tensor.flatten().half().numpy())
            at += tensor.numel()
    assert at == len(found)


@pytest.mark.slow
def test_everything_exported_is_there(fresh: Path) -> None:
    assert {path.name for path in fresh.iterdir()} == {path.name for path in (EXPLORER / "weights").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANES.values())
def test_the_codes_are_those_of_the_first_test_images(name: str, fresh: Path) -> None:
    content, again = exported(f"{name}.codes"), exported(f"{name}.codes", fresh)
    assert len(content["labels"]) == NUM_CODES
    assert content["labels"] == again["labels"]
    np.testing.assert_allclose(numbers(content).astype(float), numbers(again).astype(float), rtol=2e-3, atol=1e-3)


@pytest.mark.slow
def test_the_replay_is_of_the_stored_snapshots_and_says_whose_they_are(fresh: Path) -> None:
    content = exported("vae-2d.replay")
    assert content == exported("vae-2d.replay", fresh)
    stored = load_file(WEIGHTS / "vae-2d" / "snapshots.safetensors")
    assert np.array_equal(numbers(content), stored["means"].flatten().numpy())
    np.testing.assert_allclose(content["terms"], stored["terms"], atol=0.000051)
    log = json.loads((WEIGHTS / "vae-2d" / "training.json").read_text())["runs"][0]["epochs"]
    assert content["same_run"] == all(
        row["held_out_reconstruction"] == reconstruction
        for row, reconstruction in zip(log, stored["terms"][:, 0].double().tolist(), strict=True)
    )


@pytest.mark.slow
def test_the_histogram_counts_log_p_of_x_over_the_test_images(fresh: Path) -> None:
    """Against numpy's counts of (9.3)'s denominator; images at the edge of a bin may round into its neighbour."""
    content, again = exported(f"{CLASSIFIER}.histogram"), exported(f"{CLASSIFIER}.histogram", fresh)
    scores = GenerativeClassifier(CVAE.from_pretrained(CLASSIFIER)).log_likelihood(load("mnist", "test").images)
    evidence = np.logaddexp.reduce(scores.double().numpy(), axis=1) - math.log(10)
    counts, edges = np.histogram(evidence, len(content["counts"]), (content["low"], content["high"]))
    assert edges[1] - edges[0] == 5
    assert sum(content["counts"]) == content["images"] == 10_000
    assert np.abs(counts - content["counts"]).sum() <= 10
    assert content.keys() == again.keys()


def test_base64_halves_puts_tensors_one_after_the_other() -> None:
    found = base64.b64decode(base64_halves(torch.tensor([[1.0, 2.0]]), torch.tensor([-0.5])))
    assert found == b"\x00\x3c\x00\x40\x00\xb8"


@pytest.mark.parametrize("tag", FETCHED)
def test_what_an_element_fetches_stays_small(tag: str) -> None:
    files = (EXPLORER / "weights" / f"{RUN[tag]}.{part}.js" for part in FETCHED[tag])
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= LIMITS[tag]
