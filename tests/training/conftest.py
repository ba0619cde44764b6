from pathlib import Path

import pytest

from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of five small phantoms: three train, one validates, one tests."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder / "scans", range(5), shape=(32, 32, 32))
    prepare(PHANTOM.open(folder / "scans"), folder / "prepared")
    return folder / "prepared"
