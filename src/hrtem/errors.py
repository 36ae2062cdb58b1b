"""How a process ends when nothing is wrong with the code: the user made a mistake, or asked it to stop."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the thing, the value and what is allowed; the command
    line prints it without a traceback.
    """


class Stopped(Exception):  # noqa: N818  (not an error)
    """A signal asked the run to stop, and it did; the message says how to continue.

    Args:
        sentence: where it stopped and what to resume from.
        signal: number of the signal; the process ends with status 128 + ``signal``, as a shell reports it.
    """

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(sentence)
        self.status = 128 + signal
