"""The bodies: layers and activations in their order, and convolutions that halve and double the side."""

import pytest
import torch
from torch.nn import functional as F

from cvae_lib import CVAE, ImageSet, fit


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


@pytest.mark.slow
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
