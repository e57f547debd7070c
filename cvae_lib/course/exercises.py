"""Exercises with a blank to fill in, which say whether the answer is right."""

from typing import Any

import torch


def try_answer(exercise: str, answer: Any, expected: Any, tolerance: float = 1e-3) -> None:
    """Say whether a reader's answer is right, without giving the right one away.

    Args:
        exercise: its number, such as "3.1".
        answer: what the reader computed; `...` while the blank is empty.
        expected: numbers or a tensor to compare with.
        tolerance: how far the answer may be off, absolutely and relative to what is expected.
    """
    if answer is ...:
        print(f"Exercise {exercise}: fill in the blank.")
        return
    found, right = torch.as_tensor(answer).double(), torch.as_tensor(expected).double()
    if found.shape != right.shape:
        print(f"Exercise {exercise}: not yet.")
        print(f"The shape is {tuple(found.shape)},")
        print(f"expected is {tuple(right.shape)}.")
    elif torch.allclose(found, right, rtol=tolerance, atol=tolerance):
        print(f"Exercise {exercise}: right.")
    else:
        print(f"Exercise {exercise}: not yet. Try a hint.")
