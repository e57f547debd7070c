"""A stored model comes back as it was; a damaged or ambiguous folder ends in a sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from toys import small

from cvae_lib import CVAE, pretrained, pretrained_names


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


# Which folder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def namesake(tmp_path, monkeypatch):
    """One's own folder in the working directory, called like weights that come with the package."""
    monkeypatch.chdir(tmp_path)
    small().save_pretrained("vae-2d")
    return tmp_path / "vae-2d"


def test_a_name_that_is_both_shipped_and_a_folder_here_is_refused(namesake):
    with pytest.raises(ValueError, match=r"'vae-2d' names weights .* a folder here; write './vae-2d' for"):
        CVAE.from_pretrained("vae-2d")


@pytest.mark.parametrize("how", ["./vae-2d", Path("vae-2d"), Path("./vae-2d"), "{folder}", "../{parent}/vae-2d"])
def test_a_path_is_ones_own_folder(namesake, how):
    if isinstance(how, str):
        how = how.format(folder=namesake, parent=namesake.parent.name)
    assert CVAE.from_pretrained(how).pixels == 16


def test_a_path_never_finds_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CVAE.from_pretrained("vae-2d").pixels == 784
    for path in ("./vae-2d", Path("vae-2d")):
        with pytest.raises(ValueError, match="There are no weights named"):
            CVAE.from_pretrained(path)


def test_a_folder_of_another_name_needs_no_dot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small().save_pretrained("models/mine")
    assert CVAE.from_pretrained("models/mine").pixels == 16


# What cannot be stored ------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_weights_are_not_stored_as_integers(stored, dtype):
    """They would be zeros."""
    before = contents(stored)
    with pytest.raises(ValueError, match=f"stored as floating point numbers; got {dtype}"):
        small().save_pretrained(stored, dtype)
    assert contents(stored) == before


def test_weights_too_large_for_16_bits_are_named_and_the_old_files_stay(stored):
    """The largest number of fp16 is 65,504; bfloat16 holds it."""
    model, before = small(hidden_sizes=(8, 6)), contents(stored)
    with torch.no_grad():
        model.decoder.body.first.bias[2] = -70_000
    with pytest.raises(ValueError, match=r"decoder\.body\.first\.bias holds 70000, .* too large for torch.float16"):
        model.save_pretrained(stored, torch.float16)
    assert contents(stored) == before
    model.save_pretrained(stored, torch.bfloat16)
    assert CVAE.from_pretrained(stored).decoder.body.first.bias[2].item() == pytest.approx(-70_000, rel=2**-8)


@pytest.mark.parametrize("broken", ["save_file", "write_text"])
def test_a_save_that_fails_leaves_the_old_files_whole(stored, broken, monkeypatch):
    """Half the file is written when the disk is full."""
    before = contents(stored)

    def full(*arguments, **_):
        file = arguments[1] if broken == "save_file" else arguments[0]
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(*((pretrained, "save_file") if broken == "save_file" else (Path, "write_text")), full)
    with pytest.raises(OSError, match="No space left"):
        small(hidden_sizes=(8, 6)).save_pretrained(stored, card="# A card")
    assert contents(stored)["config.json"] == before["config.json"]
    assert set(contents(stored)) == set(before)
    monkeypatch.undo()
    assert CVAE.from_pretrained(stored).latent_dim == 2


# What others read -----------------------------------------------------------------------------------------------------


def test_the_card_is_stored_beside_the_weights_and_only_when_there_is_one(stored):
    assert set(contents(stored)) == {"config.json", "model.safetensors"}
    small().save_pretrained(stored, card="# A card\n")
    assert (stored / "README.md").read_text() == "# A card\n"


def test_the_hub_reads_what_is_stored_here_and_the_other_way_round(tmp_path):
    """Offline: the mixin's own methods take the arguments from config.json and the weights from model.safetensors."""
    hub = pytest.importorskip("huggingface_hub")

    class HubCVAE(hub.PyTorchModelHubMixin, CVAE):
        pass

    model = small(3, likelihood="gaussian", sigma_G=0.5)
    model.save_pretrained(tmp_path / "ours", card="# A card\n")
    theirs = HubCVAE.from_pretrained(str(tmp_path / "ours"), local_files_only=True)
    assert isinstance(theirs, HubCVAE)
    theirs.save_pretrained(tmp_path / "theirs")
    again = CVAE.from_pretrained(tmp_path / "theirs")
    for other in (theirs, again):
        assert other.config == model.config
        assert other.decoder.likelihood.sigma_G == 0.5
        for name, weight in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], weight)
