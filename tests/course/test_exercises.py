"""An exercise knows a right answer from a wrong one, and from none."""

import pytest
import torch

from cvae_lib.course import try_answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (..., "fill in the blank"),
        (2.0004, "right."),
        (torch.tensor(2.0), "right."),
        (2.1, "not yet. Try a hint."),
        (float("nan"), "not yet. Try a hint."),
        (torch.tensor([2.0, 2.0]), "not yet.\nThe shape is (2,),"),
    ],
)
def test_an_answer_is_judged_and_never_given_away(capsys, answer, said):
    try_answer("3.1", answer, 2.0)
    printed = capsys.readouterr().out
    assert printed.startswith(f"Exercise 3.1: {said}")
    assert "2.0" not in printed
    assert all(len(line) <= 44 for line in printed.splitlines())
