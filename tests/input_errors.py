"""What the tests ask of errors: their type, one sentence, and the values in it, not its words."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infant_seg_jax.errors import InputError


@contextmanager
def input_error(*values: object) -> Iterator[None]:
    """An `InputError` of one sentence names these: paths, keys, what was found or expected."""
    with pytest.raises(InputError) as caught:
        yield
    said = str(caught.value)
    assert is_one_sentence(said), said
    assert all(str(value) in said for value in values), said


def is_one_sentence(said: str) -> bool:
    """Whether this is one line that ends, once, as sentences do."""
    return said[-1:] in (".", "?") and len(said.splitlines()) == 1 and ". " not in said
