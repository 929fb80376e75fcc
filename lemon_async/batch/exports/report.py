"""What an export has done, and which pictures it had to leave out."""

import attrs

__all__ = ["Report"]

_MAX_FAULTS = 100


@attrs.define
class Report:
    """Counts of an export under way.

    Attributes:
        rows: Rows that were exported.
        pictures: Pictures that were exported.
        left_out: Pictures that were not, because their files are missing or have changed.
        faults: What is wrong with the first 100 of these.
    """

    rows: int = 0
    pictures: int = 0
    left_out: int = 0
    faults: list[str] = attrs.field(factory=list[str])

    def leave_out(self, key: str, fault: str) -> None:
        """Take notice of a picture that cannot be exported."""
        self.left_out += 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(f"{key}: {fault}")
