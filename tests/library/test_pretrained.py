"""A stored model comes back as it was; a damaged or ambiguous folder ends in a sentence."""

import json

import pytest
import torch
from safetensors.torch import save_file
from toys import small

from cvae_lib import CVAE, pretrained_names


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("num_labels", [0, 10])
def test_a_stored_model_comes_back(tmp_path, dtype, num_labels):
    """Exactly in float32; from fp16, which has 11 bits, as float32 and within 2^-11 of each weight."""
    model = small(num_labels, likelihood="gaussian", sigma_G=0.5)
    model.save_pretrained(tmp_path / "new" / "folder", dtype)
    loaded = CVAE.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    for mine, back in zip(model.parameters(), loaded.parameters(), strict=True):
        assert back.dtype == torch.float32
        rtol, atol = (0, 0) if dtype == torch.float32 else (2**-11, 1e-7)
        torch.testing.assert_close(back, mine, rtol=rtol, atol=atol)


@pytest.fixture
def stored(tmp_path):
    """A folder with a stored model, to be damaged."""
    small(hidden_sizes=(8, 6)).save_pretrained(tmp_path)
    return tmp_path


def test_an_unknown_name_of_weights_lists_the_known_ones():
    with pytest.raises(ValueError, match="no weights named 'vae-3d'") as error:
        CVAE.from_pretrained("vae-3d")
    assert pretrained_names()
    assert all(name in str(error.value) for name in pretrained_names())


@pytest.mark.parametrize("keep", [None, 0, 5, 0.5, -1])
def test_a_truncated_or_missing_weights_file_is_named(stored, keep):
    file = stored / "model.safetensors"
    content = file.read_bytes()
    file.unlink()
    if keep is not None:
        file.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is missing, truncated or not a safetensors file"):
        CVAE.from_pretrained(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"latent_dim": 3},
            r"does not fit its config.json: encoder\.body\.rest\.3\.weight is \(4, 6\), expected \(6, 6\)",
        ),
        ({"num_labels": 10}, r"encoder\.body\.\S+ is None, expected \(10, 8\)"),
    ],
)
def test_weights_of_another_shape_are_refused(stored, change, message):
    config = json.loads((stored / "config.json").read_text())
    (stored / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        CVAE.from_pretrained(stored)


def test_superfluous_weights_are_refused(stored):
    weights = small(hidden_sizes=(8, 6)).state_dict() | {"extra": torch.zeros(3)}
    save_file(weights, stored / "model.safetensors")
    with pytest.raises(ValueError, match=r"extra is \(3,\), expected None"):
        CVAE.from_pretrained(stored)


@pytest.mark.parametrize(
    "config", ["", "{", "[]", "{}", '{"pixels": 0}', '{"pixels": 16, "colour": 3}', '{"pixels": "16"}']
)
def test_a_broken_config_is_named(stored, config):
    (stored / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"config\.json does not describe a model: "):
        CVAE.from_pretrained(stored)
