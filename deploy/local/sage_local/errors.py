"""Errors of the local stack, shown to the person who runs it."""


class StackError(Exception):
    """The stack cannot start or keep running.

    Args:
        message: What is wrong, as a sentence.
        next_step: What the reader can do about it; may be empty.
    """

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
