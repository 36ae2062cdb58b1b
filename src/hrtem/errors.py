"""The one exception that a user's mistake raises."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the thing, the value and what is allowed; the command
    line prints it without a traceback.
    """
