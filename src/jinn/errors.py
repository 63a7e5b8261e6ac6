"""The one exception for mistakes of users. It stands alone so that light modules need not import torch."""

LONGEST = 600  # characters of a message


class JinnError(ValueError):
    """A mistake of the user, reported in one sentence that says what to do about it.

    The command line prints the sentence and exits with code 2. What it quotes may come from a damaged file: line breaks
    become spaces, characters that no terminal prints are escaped, and the middle of a message that is too long is left
    out.
    """

    def __init__(self, sentence: str = "") -> None:
        line = " ".join(sentence.splitlines())
        if not line.isprintable():
            line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} … {line[3 - LONGEST // 2 :]}"
        super().__init__(line)
