"""The model is the source document's network, broadcasts over labels, refuses bad input and survives storage."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import integrate, special, stats
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import ConcatNetwork
from cvae_lib import CVAE, ImageSet, elbo_terms, fit, pretrained_names
from cvae_lib.likelihoods import LIKELIHOODS
from cvae_lib.model import Decoder


def small(num_labels: int = 0, **kwargs) -> CVAE:
    """A model of 16 pixels that nobody trained; the same weights on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CVAE(16, (8, 6), 2, num_labels, **kwargs)


# The source document's architecture ------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [0, 10])
def test_the_source_documents_network_has_the_same_posterior_reconstruction_and_loss(num_labels):
    """(7.4) at full size: a concat-one-hot network, its weights mapped onto ours; in float64 only rounding differs."""
    torch.manual_seed(0)
    source = ConcatNetwork(num_labels).double()
    for layer in source.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.5 / layer.in_features**0.5)  # far from where training starts
    ours = source.to_cvae()
    x = torch.rand(32, 784, dtype=torch.float64)
    y = torch.arange(32) % 10 if num_labels else None
    noise = torch.randn(32, 2, dtype=torch.float64)

    mu, log_var = source.encode(x, y)
    z = mu + noise * (log_var / 2).exp()
    image = source.decode(z, y)
    kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum()
    loss = kl + F.binary_cross_entropy(image, x, reduction="sum")

    posterior = ours.encode(x, y)
    torch.testing.assert_close(posterior.loc, mu, rtol=1e-9, atol=0)
    torch.testing.assert_close(posterior.variance, log_var.exp(), rtol=1e-9, atol=0)
    torch.testing.assert_close(ours.decode(z, y).mean, image, rtol=1e-9, atol=0)
    assert elbo_terms(ours, x, y, noise=noise[None]).loss.sum().item() == pytest.approx(loss.item(), rel=1e-9)
    in_float32 = elbo_terms(ours.float(), x.float(), y, noise=noise[None].float()).loss.sum()
    assert in_float32.item() == pytest.approx(loss.item(), rel=1e-5)


# Labels and shapes -----------------------------------------------------------------------------------------------


def test_all_labels_at_once_equal_one_call_for_each():
    model, x = small(10), torch.rand(5, 16)
    z = torch.randn(5, 2)
    together = model.encode(x[:, None], torch.arange(10)), model.decode(z[:, None], torch.arange(10))
    for label in range(10):
        alone = model.encode(x, label)
        torch.testing.assert_close(together[0].loc[:, label], alone.loc)
        torch.testing.assert_close(together[0].scale[:, label], alone.scale)
        torch.testing.assert_close(together[1].mean[:, label], model.decode(z, torch.full((5,), label)).mean)


def test_all_labels_at_once_cost_the_product_with_x_only_once():
    """Multiply-adds counted by torch: 16x8 once for each image, 8x6 and 6x4 for each image and label."""
    with FlopCounterMode(display=False) as counter:
        small(10).encode(torch.rand(5, 16)[:, None], torch.arange(10))
    assert counter.get_total_flops() == 2 * 5 * (16 * 8 + 10 * (8 * 6 + 6 * 4))


def test_codes_may_carry_a_leading_sample_axis():
    model, z, y = small(10), torch.randn(7, 5, 2), torch.arange(5)
    together = model.decode(z, y).mean
    assert together.shape == (7, 5, 16)
    torch.testing.assert_close(together, torch.stack([model.decode(codes, y).mean for codes in z]))


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize(
    ("num_labels", "y"), [(0, None), (3, 2), (3, [0, 2, 1, 1]), (3, torch.tensor([2], dtype=torch.uint8))]
)
def test_sample_draws_n_different_images_whatever_the_latent_dimension(latent_dim, num_labels, y):
    """The source's `sampling(n)` drew one image from a latent of dimension n."""
    torch.manual_seed(0)
    images = CVAE(16, (8,), latent_dim, num_labels).sample(4, y)
    assert images.shape == (4, 16)
    assert len(images.unique(dim=0)) == 4
    assert 0 < images.min() < images.max() < 1


def test_sample_gives_each_image_its_own_label():
    """With decoders that ignore the code an image shows nothing but its label."""
    model = small(3)
    nn.init.zeros_(model.decoder.body.first.weight)
    images = model.sample(4, torch.tensor([0, 2, 2, 1]))
    torch.testing.assert_close(images, model.decode(torch.zeros(4, 2), torch.tensor([0, 2, 2, 1])).mean)
    assert len(images.unique(dim=0)) == 3


def test_the_callers_list_of_layer_sizes_stays_as_it_was():
    sizes = [8, 6]
    CVAE(16, sizes, num_labels=3)
    assert sizes == [8, 6]


# Likelihoods -----------------------------------------------------------------------------------------------------

LOGITS = (-30.0, -8.0, -1.0, -0.1, 0.0, 0.05, 2.5, 17.0)


def likelihood_at(logit: float, likelihood: str, sigma_G: float = 0.3):
    """The decoder's distribution for one pixel whose logit is known."""
    return Decoder(lambda z, y: torch.tensor([logit]), likelihood, sigma_G)(torch.zeros(1))


@pytest.mark.parametrize("logit", LOGITS)
def test_bernoulli_is_minus_the_cross_entropy_on_grey_pixels_too(logit):
    """(3.3) pixel by pixel."""
    for x in (0.0, 0.3, 1.0):
        expected = -x * np.logaddexp(0, -logit) - (1 - x) * np.logaddexp(0, logit)
        log_prob = likelihood_at(logit, "bernoulli").log_prob(torch.tensor([x])).item()
        assert log_prob == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_cross_entropy_on_grey_is_what_a_coin_costs_on_average_and_never_below_its_entropy(logit):
    """(5.4) pixel by pixel, with the expectation over both sides of the coin written out."""
    pixel = likelihood_at(logit, "bernoulli")
    heads, tails = (-pixel.log_prob(torch.tensor([b])).item() for b in (1.0, 0.0))
    for x in (0.0, 0.3, 1.0):
        entropy = stats.bernoulli(x).entropy()
        divergence = special.rel_entr([x, 1 - x], special.expit([logit, -logit])).sum()
        cross_entropy = -pixel.log_prob(torch.tensor([x])).item()
        assert cross_entropy == pytest.approx(x * heads + (1 - x) * tails, rel=1e-5, abs=1e-6)
        assert cross_entropy == pytest.approx(entropy + divergence, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_the_density_that_quadrature_normalises(logit):
    """(5.5), (9.11): proportional to exp(logit x) on [0, 1], confident pixels too (torch's own fails); mean (5.6)."""
    pixel = likelihood_at(logit, "continuous_bernoulli")
    total, mean = (integrate.quad(lambda x, k=k: x**k * math.exp(logit * x), 0, 1)[0] for k in (0, 1))
    for x in (0.0, 0.3, 1.0):
        expected = logit * x - math.log(total)
        assert pixel.log_prob(torch.tensor([x])).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert pixel.mean.item() == pytest.approx(mean / total, abs=1e-5)


def test_gaussian_is_centred_on_the_sigmoid_with_the_width_asked_for():
    for logit in LOGITS:
        expected = stats.norm.logpdf(0.3, loc=1 / (1 + math.exp(-logit)), scale=0.2)
        pixel = likelihood_at(logit, "gaussian", sigma_G=0.2)
        assert pixel.log_prob(torch.tensor([0.3])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_the_activation_stands_between_the_layers_of_both_networks(activation):
    """By matrices: the encoder's output is its last layer applied to the activation of the hidden one."""
    model, x = CVAE(16, (8,), 2, activation=activation), torch.rand(3, 16)
    function = {"relu": lambda v: v.clamp(min=0), "tanh": torch.tanh, "silu": lambda v: v / (1 + (-v).exp())}
    body = model.encoder.body
    out = function[activation](x @ body.first.weight.T + body.first.bias) @ body.rest[1].weight.T + body.rest[1].bias
    torch.testing.assert_close(model.encode(x).loc, out[:, :2])
    body, z = model.decoder.body, torch.randn(3, 2)
    out = function[activation](z @ body.first.weight.T + body.first.bias) @ body.rest[1].weight.T + body.rest[1].bias
    torch.testing.assert_close(model.decode(z).mean, out.sigmoid())


# Bad input -------------------------------------------------------------------------------------------------------

X, Z = torch.rand(3, 16), torch.zeros(3, 2)
NOT_FINITE = r"must be finite; some values are NaN or infinite"
LABELS = r"Labels must be integers from 0 to 9; got "


BAD_INPUT = {
    "images of another width": (
        lambda vae, cvae: vae.encode(X[:, :15]),
        r"Images must have shape \(\.\.\., 16\); got \(3, 15\)",
    ),
    "a number for an image": (
        lambda vae, cvae: vae.encode(torch.tensor(0.5)),
        r"Images must have shape \(\.\.\., 16\); got \(\)",
    ),
    "integers for images": (
        lambda vae, cvae: vae.encode((255 * X).byte()),
        r"Images must be floating point; got torch.uint8",
    ),
    "no images": (lambda vae, cvae: vae.encode(X[:0]), r"got the empty shape \(0, 16\)"),
    "bytes for grey": (
        lambda vae, cvae: vae.encode(255 * X),
        r"in \[0, 1\] for the bernoulli likelihood; these lie in \[",
    ),
    "grey below black": (
        lambda vae, cvae: vae.encode(X - 1),
        r"in \[0, 1\] for the bernoulli likelihood; these lie in \[-",
    ),
    "NaN": (lambda vae, cvae: vae.encode(X.index_fill(0, torch.tensor(1), math.nan)), NOT_FINITE),
    "infinity": (lambda vae, cvae: vae.encode(X.index_fill(0, torch.tensor(1), math.inf)), NOT_FINITE),
    "codes of another width": (
        lambda vae, cvae: vae.decode(torch.zeros(3, 5)),
        r"Codes must have shape \(\.\.\., 2\); got \(3, 5\)",
    ),
    "integers for codes": (lambda vae, cvae: vae.decode(Z.long()), r"Codes must be floating point; got torch.int64"),
    "no codes": (lambda vae, cvae: vae.decode(Z[:0]), r"got the empty shape \(0, 2\)"),
    "a superfluous label": (lambda vae, cvae: vae.encode(X, 3), r"has no labels \(num_labels=0\); leave y out"),
    "a superfluous label to sample": (
        lambda vae, cvae: vae.sample(2, 3),
        r"has no labels \(num_labels=0\); leave y out",
    ),
    "a missing label": (lambda vae, cvae: cvae.encode(X), r"is conditional: give y, labels from 0 to 9"),
    "a missing label to sample": (lambda vae, cvae: cvae.sample(2), r"is conditional: give y, labels from 0 to 9"),
    "a label past the last": (lambda vae, cvae: cvae.encode(X, 10), LABELS + r"\[10\]"),
    "a negative label": (lambda vae, cvae: cvae.decode(Z, torch.tensor([0, -1, 9])), LABELS + r"\[-1, 0, 9\]"),
    "labels in floating point": (
        lambda vae, cvae: cvae.encode(X, torch.tensor([0.0, 1.0, 2.0])),
        LABELS + "torch.float32",
    ),
    "labels that are true or false": (
        lambda vae, cvae: cvae.encode(X, torch.tensor([True, False, True])),
        LABELS + "torch.bool",
    ),
    "too many labels": (
        lambda vae, cvae: cvae.encode(X, torch.arange(4)),
        r"of shape \(4,\) do not fit a batch of shape \(3,\)",
    ),
    "too many labels for the codes": (
        lambda vae, cvae: cvae.decode(Z, torch.arange(4)),
        r"of shape \(4,\) do not fit a batch of shape \(3,\)",
    ),
    "more labels than samples": (
        lambda vae, cvae: cvae.sample(1, torch.arange(4)),
        r"Give one label or 1, .* got shape \(4,\)",
    ),
    "labels in a column": (
        lambda vae, cvae: cvae.sample(4, torch.zeros(4, 1).long()),
        r"Give one label or 4, .* got shape \(4, 1\)",
    ),
    "no samples": (lambda vae, cvae: vae.sample(0), r"at least 1 image; got n=0"),
    "no latent dimension": (lambda vae, cvae: CVAE(16, latent_dim=0), r"Sizes must be at least 1.* got .*latent_dim=0"),
    "an empty layer": (lambda vae, cvae: CVAE(16, (8, 0)), r"Sizes must be at least 1.* got .*hidden_sizes=\(8, 0\)"),
    "no noise": (lambda vae, cvae: CVAE(16, sigma_G=0), r"sigma_G above 0; got .*sigma_G=0"),
    "an unknown likelihood": (
        lambda vae, cvae: CVAE(16, likelihood="poisson"),
        r"Unknown likelihood 'poisson'; known: bernoulli, cont",
    ),
    "an unknown activation": (
        lambda vae, cvae: CVAE(16, activation="sine"),
        r"Unknown activation 'sine'; known: relu, t",
    ),
    "a width to learn without a Gaussian": (
        lambda vae, cvae: CVAE(16, learn_sigma_G=True),
        r"learn_sigma_G needs the Gaussian likelihood; got likelihood='bernoulli'",
    ),
    "an unknown body": (
        lambda vae, cvae: CVAE(16, body="transformer"),
        r"Unknown body 'transformer'; known: mlp, convolutional",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_ends_in_a_sentence_to_act_on(call, message):
    with pytest.raises(ValueError, match=message):
        call(small(), small(10))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_range_of_pixels_is_the_likelihoods_business(likelihood):
    model, x = small(likelihood=likelihood), torch.tensor([[-3.0, 7.0] * 8])
    if likelihood == "gaussian":
        assert elbo_terms(model, x).loss.isfinite().all()
    else:
        with pytest.raises(ValueError, match=rf"\[0, 1\] for the {likelihood} likelihood; these lie in \[-3, 7\]"):
            model.encode(x)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=NOT_FINITE):
            model.encode(x.fill_(value))


# Start -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [0, 3])
def test_the_decoder_starts_at_the_mean_image(num_labels):
    """With the last layer's weights at 0 the bias is all there is; black and white pixels stay inside (0, 1)."""
    model = CVAE(4, (5,), 2, num_labels)
    images = torch.tensor([[0.0, 1.0, 0.25, 0.5], [0.0, 1.0, 0.75, 0.7]])
    model.start_at_mean(images)
    torch.nn.init.zeros_(model.decoder.body.rest[-1].weight)
    drawn = model.sample(2, 1 if num_labels else None)
    torch.testing.assert_close(drawn, torch.tensor([0.001, 0.999, 0.5, 0.6]).expand(2, 4))


def test_a_start_at_the_mean_needs_images_that_fit_and_a_bias_for_each_pixel():
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 16\); got \(2, 9\)"):
        small().start_at_mean(torch.rand(2, 9))
    with pytest.raises(ValueError, match="one last bias for each pixel, such as the body 'mlp'"):
        CVAE(16, (4, 8), body="convolutional").start_at_mean(torch.rand(2, 16))


# Storage ---------------------------------------------------------------------------------------------------------


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
    small().save_pretrained(tmp_path)
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
    weights = small().state_dict() | {"extra": torch.zeros(3)}
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


# Another body ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [0, 3])
def test_the_convolutional_body_halves_and_doubles_the_side(num_labels):
    """By torch.nn.functional, one image and one label at a time."""
    model = CVAE(64, (3, 5, 7), 2, num_labels, body="convolutional", activation="silu")
    x, y = torch.rand(2, 64), torch.tensor([2, 0]) if num_labels else None
    first, second = model.encoder.body.convolutions[0], model.encoder.body.convolutions[2]
    h = F.silu(F.conv2d(x.reshape(2, 1, 8, 8), first.weight, first.bias, stride=2, padding=1))
    h = F.silu(F.conv2d(h, second.weight, second.bias, stride=2, padding=1))
    assert h.shape == (2, 5, 2, 2)
    torch.testing.assert_close(model.encode(x, y).loc, model.encoder.body.head(h.flatten(1), y)[:, :2])

    z = torch.randn(4, 2, 2)  # four draws
    h = F.silu(model.decoder.body.head(z, y)).reshape(8, 5, 2, 2)
    first, second = model.decoder.body.convolutions[1], model.decoder.body.convolutions[3]
    h = F.silu(F.conv_transpose2d(h, first.weight, first.bias, stride=2, padding=1))
    h = F.conv_transpose2d(h, second.weight, second.bias, stride=2, padding=1)
    torch.testing.assert_close(model.decode(z, y).mean, h.sigmoid().reshape(4, 2, 64))


@pytest.mark.parametrize(("pixels", "sizes"), [(60, (3, 7)), (36, (3, 5, 7)), (64, (7,)), (64, ())])
def test_images_that_cannot_be_halved_are_refused(pixels, sizes):
    with pytest.raises(ValueError, match=f"need a square image whose side .* got {pixels} pixels and"):
        CVAE(pixels, sizes, body="convolutional")


def test_a_convolutional_body_trains_broadcasts_and_is_stored(tmp_path):
    torch.manual_seed(0)
    model = CVAE(16, (4, 8), 2, 3, body="convolutional")
    patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).repeat(1, 8)  # the label says all about the image
    data = ImageSet(patterns.repeat(32, 1), torch.arange(96) % 3, "stripes")
    history = fit(model, data, epochs=40, batch_size=16, learning_rate=1e-2)
    assert history[-1].loss < 1 < 10 < history[0].loss
    model.save_pretrained(tmp_path)
    x, labels = data.images[:5, None], torch.arange(3)
    torch.testing.assert_close(CVAE.from_pretrained(tmp_path).encode(x, labels).loc, model.encode(x, labels).loc)
