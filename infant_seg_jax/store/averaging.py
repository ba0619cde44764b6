"""Average the weights of several networks into one.

If one network was fine-tuned from the other, the average often keeps the skills of both, and
prediction takes no longer (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from infant_seg_jax.errors import InputError
from infant_seg_jax.prediction.reference_statistics import NOTHING_KNOWN
from infant_seg_jax.store.model_folder import Model


def average_models(models: Sequence[Model], shares: Sequence[float]) -> Model:
    """The weighted mean of several models' weights.

    The result has no reference statistics: measure them again.

    Args:
        models: have the same architecture, modalities, preparation and classes. The result has the
            extents of the first.
        shares: the weight of each model; positive, with a sum of 1.

    Raises:
        InputError: the models differ in more than their weights, or the shares are not positive, do
            not sum to 1 or are not as many as the models.
    """
    if len(shares) != len(models) or not all(share > 0 for share in shares):
        raise InputError(
            f"The shares are {', '.join(map(str, shares))} for {len(models)} models, expected a "
            "positive one for each."
        )
    if not np.isclose(sum(shares), 1):
        raise InputError(f"The shares sum to {sum(shares):g}, expected 1.")
    first = models[0]
    for number, model in enumerate(models[1:], start=2):
        own, other = _in_common(first), _in_common(model)
        if differing := [what for what in own if own[what] != other[what]]:
            what = differing[0]
            raise InputError(
                f"Model {number} has the {what} {other[what]}, the first {own[what]}: expected "
                "models that differ in their weights alone."
            )

    def mean(*leaves: np.ndarray | jax.Array) -> np.ndarray:
        total = sum(share * np.float64(leaf) for share, leaf in zip(shares, leaves, strict=True))
        return np.asarray(total, np.float32)

    made_of = [
        {"share": share, **model.training} for share, model in zip(shares, models, strict=True)
    ]
    return replace(
        first,
        variables=jax.tree.map(mean, *(model.variables for model in models)),
        training={"data": first.training.get("data"), "mean_of": made_of},
        reference=NOTHING_KNOWN,
    )


def _in_common(model: Model) -> dict[str, object]:
    """What must be equal in models that are averaged."""
    kinds = ("classes", "modalities", "preparation")
    scans = {kind: getattr(model.expects, kind) for kind in kinds}
    return {"network": model.config.model.to_dict(), **scans}
