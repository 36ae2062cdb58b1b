"""Exceptions that are not errors of the program: a user's mistake, or a request to stop."""


class InputError(ValueError):
    """Invalid input of the user.

    The message is one sentence with the name of the input, its value and the allowed values; the command
    line prints it without a traceback.
    """


class Stopped(Exception):  # noqa: N818  (not an error)
    """Stop of a run after a signal; the message explains how to continue.

    Args:
        sentence: description of the point where the run stopped and how to resume it.
        signal: number of the signal; the exit status of the process is 128 + ``signal``, as in a shell.
    """

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(sentence)
        self.status = 128 + signal
