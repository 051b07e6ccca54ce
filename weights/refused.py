"""The one error that is the user's to mend."""

from __future__ import annotations


class Refused(ValueError):
    """Something that can't be done as asked; each reason is one line that says what, where, and the way out.

    Raised wherever a file, a definition or a request is at fault, never for a fault of this project's own.
    """

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))

    def within(self, place: str) -> Refused:
        """Returns the same refusal with each reason placed: ``deploy.prototxt: ...``."""
        return Refused(*(f"{place}: {reason}" for reason in self.reasons))
