"""Who watches a training sees every step and epoch in order, and changes nothing."""

import pytest
import torch
from torch import nn
from toys import noise, numbers, small

from cvae_lib import Callback, evaluate, fit, train


class Diary(Callback):
    """Writes down what it is told, and what it finds."""

    def __init__(self):
        self.told, self.losses = [], []

    def on_start(self, training):
        """See `Callback`."""
        self.told.append(("start", training.epoch, training.step, training.draws, training.model.training))
        self.losses.append(evaluate(training.model, noise(40)).loss.item())

    def on_step(self, training):
        """See `Callback`."""
        self.told.append(("step", training.epoch, training.step, len(training.draws.z[0]), training.model.training))

    def on_epoch(self, training):
        """See `Callback`."""
        self.told.append(("epoch", training.epoch, training.step, len(training.draws.z[0]), training.model.training))
        self.losses.append(evaluate(training.model, noise(40)).loss.item())


class Rude(Callback):
    """Draws random numbers, and leaves the model in another mode than it found it in."""

    def on_start(self, training):
        """See `Callback`."""
        torch.rand(3)
        training.model.train(not training.model.training)

    on_step = on_epoch = on_start


def test_a_callback_is_called_at_the_start_after_every_step_and_after_every_epoch():
    """Three batches an epoch, of 32, 32 and 6 images; in evaluation mode but for the steps."""
    diary, model = Diary(), small()
    fit(model, noise(), epochs=2, batch_size=32, callbacks=[diary])
    assert diary.told == [
        ("start", 0, 0, None, False),
        *(("step", 1, 1, 32, True), ("step", 1, 2, 32, True), ("step", 1, 3, 6, True), ("epoch", 1, 3, 6, False)),
        *(("step", 2, 1, 32, True), ("step", 2, 2, 32, True), ("step", 2, 3, 6, True), ("epoch", 2, 3, 6, False)),
    ]


def test_callbacks_are_told_in_the_order_they_are_given_after_the_history():
    """The history is complete when they see an epoch, so that they may read it."""
    told = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch(self, training):
            told.append((self.name, training.epoch))

    fit(small(), noise(), epochs=2, callbacks=[Named("a"), Named("b")])
    assert told == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_the_training_says_how_far_it_is_and_how_fast():
    seen = []

    class Watcher(Callback):
        def on_step(self, training):
            seen.append(training)

    model = small()
    fit(model, noise(), epochs=2, batch_size=32, learning_rate=0.02, callbacks=[Watcher()])
    assert {(now.epochs, now.steps, now.learning_rate) for now in seen} == {(2, 3, 0.02)}
    assert all(now.model is model for now in seen)


def test_a_callback_sees_every_epoch_and_changes_nothing():
    """Not even one that draws random numbers and leaves another mode behind."""
    model, quiet, diary = small(), small(), Diary()
    before = evaluate(model, noise(40)).loss.item()
    arguments = {"epochs": 2, "held_out": noise(40), "batch_size": 32}
    history = fit(model, noise(), **arguments, callbacks=[Rude(), diary, Rude()])
    assert numbers(history) == numbers(fit(quiet, noise(), **arguments))
    assert torch.equal(model.encoder.body.first.weight, quiet.encoder.body.first.weight)
    assert diary.losses == [before, *history.column("held_out_loss")]
    assert {mode for what, *_, mode in diary.told if what == "step"} == {True}
    assert {mode for what, *_, mode in diary.told if what != "step"} == {False}
    assert not model.training


def test_a_callback_may_evaluate_after_a_step_and_dropout_goes_on():
    """`evaluate` leaves evaluation mode; the next step is one of training all the same."""
    modes = []

    class Evaluates(Callback):
        def on_step(self, training):
            evaluate(training.model, noise(40))

    class Noting(nn.Dropout):
        def forward(self, h):
            modes.append(self.training)
            return super().forward(h)

    model = small()
    model.encoder.body.rest.insert(1, Noting())
    fit(model, noise(), epochs=1, batch_size=32, callbacks=[Evaluates()])
    assert modes == [True, False] * 3  # a step, then the evaluation after it


def test_held_out_columns_are_what_evaluate_says_afterwards():
    model, held_out = small(3), noise(40)
    history = fit(model, noise(), epochs=2, held_out=held_out, batch_size=32, seed=5)
    terms, last = evaluate(model, held_out, seed=5), history[-1]
    assert (last.held_out_reconstruction, last.held_out_kl) == (terms.reconstruction.item(), terms.kl.item())
    for row in history:
        assert row.loss == pytest.approx(row.reconstruction + row.kl)
        assert row.held_out_loss == pytest.approx(row.held_out_reconstruction + row.held_out_kl)
        assert row.seconds > 0
    assert history.column("epoch") == [1, 2]
    assert history.column("kl") == [history[0].kl, history[1].kl]


def test_without_a_held_out_set_its_columns_are_empty():
    (row,) = fit(small(), noise(), epochs=1)
    assert (row.held_out_reconstruction, row.held_out_kl, row.held_out_loss) == (None, None, None)


def test_the_first_line_names_the_data(capsys):
    fit(small(), noise(1_200), epochs=1, held_out=noise(40))
    assert capsys.readouterr().out.splitlines()[0] == "Data: noise, 1,200 images; held out: noise, 40 images"


@pytest.mark.parametrize(("step", "whole_epochs"), [(2, 0), (5, 1), (9, 2)])
def test_an_interruption_returns_the_whole_epochs(monkeypatch, capsys, step, whole_epochs):
    """Three batches an epoch; the user's interrupt comes in the named step."""
    undisturbed, steps = fit(small(), noise(), epochs=3, batch_size=32), []

    def interrupted(*arguments, **how):
        steps.append(arguments)
        if len(steps) == step:
            raise KeyboardInterrupt
        return draws(*arguments, **how)

    draws = train.posterior_draws
    monkeypatch.setattr(train, "posterior_draws", interrupted)
    model, state = small(), torch.get_rng_state()
    history = fit(model, noise(), epochs=3, batch_size=32)
    assert numbers(history) == numbers(undisturbed[:whole_epochs])
    assert f"Interrupted in epoch {whole_epochs + 1}" in capsys.readouterr().out
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
