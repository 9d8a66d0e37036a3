"""For the tests of training."""

from tests.training.toys import text  # noqa: F401
