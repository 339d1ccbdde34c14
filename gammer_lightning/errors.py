"""The one error class a user can meet: which value, which rule, what to do next."""


class GammerError(Exception):
    """A mistake the user can mend; the command line prints it as one block, without a traceback.

    Args:
        what: What went wrong, with the offending value.
        rule: The rule that the value breaks.
        next_step: What to do, best as a command to run.
    """

    exit_code = 2

    def __init__(self, what: str, rule: str = "", next_step: str = ""):
        self.what, self.rule, self.next_step = what, rule, next_step
        super().__init__(what, rule, next_step)

    def __str__(self) -> str:
        """Return the message, one line for each part that is not empty."""
        parts = (self.what, self.rule and f"rule: {self.rule}", self.next_step and f"next: {self.next_step}")
        return "\n  ".join(part for part in parts if part)


class OutOfMemoryError(GammerError):
    """The device's memory does not hold the run; a sweep tries such a row once more with smaller chunks."""

    exit_code = 3
