"""The one exception of this package."""


class TokenizerError(ValueError):
    """A mistake of the caller or of a file: says what, what was found, what was expected, what to do."""
