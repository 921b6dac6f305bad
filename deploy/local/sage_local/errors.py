"""What keeps the stack from running, in words for the person who started it."""


class StackError(Exception):
    """The stack cannot start or go on.

    Args:
        message: What is wrong, a sentence.
        next_step: What the reader can do about it; empty where there is nothing to say.
    """

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
