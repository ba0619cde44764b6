"""Words for errors."""

from infant_seg_jax.errors import some_of


def test_some_names_for_a_sentence():
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert some_of([]) == ""
    assert some_of("abc", 2, "; ") == "a; b and 1 more"
