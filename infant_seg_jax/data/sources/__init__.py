"""The datasets that `prepare` can read, one module each; a new one joins `SOURCES`."""

from infant_seg_jax.data.sources.bids import BIDS
from infant_seg_jax.data.sources.dhcp import DHCP
from infant_seg_jax.data.sources.folder import FOLDER
from infant_seg_jax.data.sources.ibsr import IBSR
from infant_seg_jax.data.sources.iseg import ISEG
from infant_seg_jax.data.sources.nnunet import NNUNET
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase

SOURCES = {source.name: source for source in (BIDS, DHCP, FOLDER, IBSR, ISEG, NNUNET, PHANTOM)}

__all__ = ["SOURCES", "Dataset", "Query", "Source", "SourceCase"]
