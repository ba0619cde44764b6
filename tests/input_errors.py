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
    sentence = str(caught.value)
    assert is_one_sentence(sentence), sentence
    assert all(str(value) in sentence for value in values), sentence


def is_one_sentence(sentence: str) -> bool:
    """Whether this is one line that ends, once, as sentences do."""
    return sentence[-1:] in (".", "?") and len(sentence.splitlines()) == 1 and ". " not in sentence
