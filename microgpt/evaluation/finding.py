"""What a probe found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """What a probe found.

    is_good: None where it cannot say anything of this model, or not yet.  look: where to look if it is bad.
    """

    name: str
    is_good: bool | None
    text: str
    look: str = ""

    def told(self) -> str:
        """A line for a person."""
        mark = {True: "ok  ", False: "BAD ", None: "-   "}[self.is_good]
        look = f"; look at {self.look}" if self.is_good is False and self.look else ""
        return f"{mark} {self.name}: {self.text}{look}"
