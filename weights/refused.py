"""The one error that is the user's to mend."""

from __future__ import annotations

LONGEST_LINE = 600


class Refused(ValueError):
    """Something that can't be done as asked; each reason is one line that says what, where, and the way out.

    Raised wherever a file, a definition or a request is at fault, never for a fault of this project's own.
    """

    def __init__(self, *reasons: str) -> None:
        self.reasons = tuple(map(one_line, reasons))
        super().__init__("\n".join(self.reasons))

    def within(self, place: str) -> Refused:
        """Returns the same refusal with each reason placed: ``deploy.prototxt: ...``."""
        return Refused(*(f"{place}: {reason}" for reason in self.reasons))


def one_line(text: str) -> str:
    """Returns ``text``, which may quote names from any file, fit for one line of a terminal: what would break the
    line, or speak to the terminal, is spelled out, and a long middle is left out."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_LINE // 2
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: half - 3]} ... {shown[2 - half :]}"
