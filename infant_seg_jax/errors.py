"""The only kind of error that is meant for the user, and words for it."""

from collections.abc import Iterable


class InputError(ValueError):
    """Input from the user cannot be used.

    The message is one sentence: what is wrong, in which file, what was found, what was expected
    and what to do. The command line prints it without a traceback and exits with status 1.
    """


def some_of(texts: Iterable[str], limit: int = 5, between: str = ", ") -> str:
    """Some of many for a sentence, as in 'a, b and 7 more'."""
    texts = list(texts)
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return between.join(texts[:limit]) + more
