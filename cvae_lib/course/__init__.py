"""What the chapters and the pages of the course need on top of the library.

Nothing in the library imports it.
"""

from cvae_lib.course.bands import check
from cvae_lib.course.dataset import dataset_name
from cvae_lib.course.exercises import try_answer
from cvae_lib.course.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "check", "dataset_name", "try_answer"]
