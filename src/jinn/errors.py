"""The one exception for mistakes of users. It stands alone so that light modules need not import torch."""


class JinnError(ValueError):
    """A mistake of the user, reported in one sentence that says what to do about it.

    The command line prints the sentence and exits with code 2.
    """
