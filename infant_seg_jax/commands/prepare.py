"""turn a dataset of scans and label maps into a prepared set that training reads.

Each scan is brought to RAS order, cropped to the brain with a margin, and normalised to zero mean
and unit variance over the brain. Nothing is resampled. The output folder holds the arrays, a
manifest.json that says where everything came from, and a splits.json that you may edit.

    infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.data.prepared import SPLITS, prepare
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.data.sources import SOURCES


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "source", None, sorted(SOURCES), "The dataset's layout.", required=True, flag_values=values
    )
    flags.DEFINE_string("input", None, "The dataset's folder.", required=True, flag_values=values)
    flags.DEFINE_string(
        "output", None, "A new folder for the prepared set.", required=True, flag_values=values
    )
    flags.DEFINE_float(
        "margin_mm",
        Preparation().margin_mm,
        "Surroundings kept on each side of the brain, in mm.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed", 0, "Draws the split, where the source has none of its own.", flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    source = SOURCES[values.source]
    folder = Path(values.input)
    prepared = prepare(
        source.find(folder),
        Path(values.output),
        source=source.name,
        schema=source.schema,
        modalities=source.modalities,
        preparation=Preparation(margin_mm=values.margin_mm),
        input_folder=folder,
        seed=values.seed,
    )
    counts = ", ".join(f"{len(prepared.split(name))} {name}" for name in SPLITS)
    print(f"Prepared {len(prepared.cases)} cases ({counts}) in {prepared.folder}.")
    print(f"Next: infant-seg train --config=configs/default.py --config.data.path={values.output}")
