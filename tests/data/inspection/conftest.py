import pytest

from infant_seg_jax.data.phantom import Phantom, render_phantom


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return render_phantom(0)
