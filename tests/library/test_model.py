"""The model is the source document's network, broadcasts over labels and refuses bad input."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from toys import small

from benchmarks.training import ConcatNetwork
from cvae_lib import CVAE, elbo_terms
from cvae_lib.likelihoods import LIKELIHOODS

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
    model, x = small(10, (8, 6)), torch.rand(5, 16)
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
        small(10, (8, 6)).encode(torch.rand(5, 16)[:, None], torch.arange(10))
    assert counter.get_total_flops() == 2 * 5 * (16 * 8 + 10 * (8 * 6 + 6 * 4))


def test_codes_may_carry_a_leading_sample_axis():
    model, z, y = small(10, (8, 6)), torch.randn(7, 5, 2), torch.arange(5)
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
    model = small(3, (8, 6))
    nn.init.zeros_(model.decoder.body.first.weight)
    images = model.sample(4, torch.tensor([0, 2, 2, 1]))
    torch.testing.assert_close(images, model.decode(torch.zeros(4, 2), torch.tensor([0, 2, 2, 1])).mean)
    assert len(images.unique(dim=0)) == 3


def test_the_callers_list_of_layer_sizes_stays_as_it_was():
    sizes = [8, 6]
    CVAE(16, sizes, num_labels=3)
    assert sizes == [8, 6]


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
    "no samples": (lambda vae, cvae: vae.sample(0), "n must be at least 1; got 0"),
    "no latent dimension": (lambda vae, cvae: CVAE(16, latent_dim=0), "latent_dim must be at least 1; got 0"),
    "an empty layer": (lambda vae, cvae: CVAE(16, (8, 0)), "hidden_sizes must be at least 1; got 0"),
    "no noise": (
        lambda vae, cvae: CVAE(16, likelihood="gaussian", sigma_G=0),
        "sigma_G must be above 0 and finite",
    ),
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
        r"The bernoulli likelihood does not take learn_sigma_G: ",
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
