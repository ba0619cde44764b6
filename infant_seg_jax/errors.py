"""The one kind of error that is meant for the person at the keyboard."""


class InputError(ValueError):
    """Something a person gave us cannot be used.

    The message is one sentence: what is wrong, in which file, what was found, what was expected
    and what to do. The command line prints it without a traceback and exits with status 1.
    """
