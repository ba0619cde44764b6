"""The datasets that `prepare` can read, one module each; a new one joins `SOURCES`."""

from infant_seg_jax.data.sources.ibsr import IBSR
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.data.sources.source import Source, SourceCase

SOURCES = {source.name: source for source in (IBSR, PHANTOM)}

__all__ = ["SOURCES", "Source", "SourceCase"]
