"""Which way a brain lies in its scan, found from the scan itself and not from its header.

An average brain is laid over the scan in every orientation. How well it fits is told by two
witnesses: how far the average brain's outline agrees with the scan's (a correlation), and which
share of the brain's brightness follows from where the average brain has fluid, gray and white
matter (R squared, of a linear regression, so that it does not matter which of them is bright).
What a smooth change of brightness explains, as under a coil, is taken away first.

Brains are nearly the same left and right. A scan that is turned by 180 degrees about an axis looks
like one that is mirrored, so which of the two it is, and which side is left, is never said.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from scipy.spatial.transform import Rotation

from infant_seg_jax.data.average_brain import REACH, SIDE, ball_points, brain_at, normalized
from infant_seg_jax.data.foreground import BRAIN, find_foreground
from infant_seg_jax.data.volumes import Volume

CERTAIN = 0.08
"""An orientation is certain if it fits by so much better than every other: docs/trust.md."""

LEAST_FIT = 1.2
"""What fits worse, of 2 at most, is no brain as we know them."""

LEAST_DEGREES = 70.0
"""A brain that is turned by less may be that of a head held aslant."""

_COARSE_MM = 3.0
_TILT_DEGREES = 25.0
_RIDGE = 1e-4
_CANDIDATES, _WITHIN = 4, 0.25
"""So many orientations are refined, if they fit nearly as well as the best before."""
_STEPS = (12.0, 0.06, 0.05)
"""Of the refinement: degrees, shares of the brain's size, of the logarithm of the scale."""
_HALVINGS, _MOST_ROUNDS = 2, 12

Turn = Int[np.ndarray, "3 3"]
"""A rotation by multiples of 90 degrees: its columns are where right, anterior and superior go."""

Coarse = tuple[Float32[np.ndarray, "x y z"], Bool[np.ndarray, "x y z"], tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Orientation:
    """Which way a brain lies in its scan.

    Attributes:
        turn: its columns are where the brain's right, front and top lie by the header; the identity
            where the header is right. Right and left may be exchanged.
        fit: how well an average brain fits in this orientation: the outline's correlation and the
            R squared of the brightness, added, so up to 2.
        margin: by how much better than in any other of the 24 orientations.
        degrees: by how much the brain is turned against the header's axes, tilt included.
        symmetry: how far the outline and its mirror image, left to right as the brain lies, are
            one: their Dice, 1 for the same.
    """

    turn: Turn
    fit: float
    margin: float
    degrees: float
    symmetry: float

    @property
    def contradicts_header(self) -> bool:
        """Whether the brain surely lies otherwise than the header says."""
        otherwise = not np.array_equal(self.turn, np.eye(3)) and self.degrees >= LEAST_DEGREES
        return otherwise and self.margin >= CERTAIN and self.fit >= LEAST_FIT

    def in_words(self) -> str:
        """Where front and top lie, and by what, as in 'whose front lies where ...'."""
        front, top = (_direction(self.turn[:, axis]) for axis in (1, 2))
        return (
            f"whose front is where the header says {front} and whose top is where it says {top}, "
            f"as if it had been {_movement(self.turn)}"
        )


def orientation_of(
    volume: Volume, mask: Bool[np.ndarray, "x y z"] | None = None
) -> Orientation | None:
    """Find which way the brain lies in a scan, by its first channel.

    Args:
        volume: the scan.
        mask: the brain; None: what a stripped scan shows, which is found here.

    Returns:
        None where the scan shows a head and there is no mask, or where there is nothing.
    """
    seen = coarse(volume, mask)
    return find_orientation(*seen) if seen else None


def coarse(volume: Volume, mask: Bool[np.ndarray, "X Y Z"] | None = None) -> Coarse | None:
    """A scan's first channel in voxels of about 3 mm, its brain and its spacing; None as above."""
    steps = [max(1, round(_COARSE_MM / size)) for size in volume.spacing]
    x, y, z = (size * step for size, step in zip(volume.spacing, steps, strict=True))
    some = slice(None, None, steps[0]), slice(None, None, steps[1]), slice(None, None, steps[2])
    if mask is None:
        found = find_foreground(np.ascontiguousarray(volume.data[some]), (x, y, z))
        if found.extent != BRAIN:
            return None
        mask = found.mask
    else:
        mask = mask[some]
    image = _block_means(volume.data[..., 0], steps)
    inside = mask[tuple(slice(0, size) for size in image.shape)]
    return (image, inside, (x, y, z)) if inside.any() else None


def find_orientation(
    image: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> Orientation:
    """Find which way a brain lies.

    Args:
        image: brightness, along the axes that the header calls right, anterior and superior.
        mask: the brain, with the fluid around it; not empty.
        spacing: of the voxels, in mm: 3 or so will do.
    """
    scan = _Scan.of(image, mask, spacing)
    fits = np.stack([_fits(scan, templates) for templates in _turned_templates()])
    best = fits.max(axis=1)
    promising = [i for i in np.argsort(-best)[:_CANDIDATES] if best[i] > best.max() - _WITHIN]
    found = {
        int(index): _refine(scan, _turns()[index], _tilts()[fits[index].argmax()])
        for index in {0, *promising}
    }
    winner = max(found, key=lambda index: found[index][0])
    fit, rotation = found[winner]
    rest = [found[index][0] if index in found else one for index, one in enumerate(best)]
    second = max(rest[:winner] + rest[winner + 1 :])
    degrees = float(np.degrees(Rotation.from_matrix(rotation).magnitude()))
    symmetry = _symmetry(mask, spacing, rotation[:, 0])
    return Orientation(_turns()[winner], fit, fit - second, degrees, symmetry)


def turned(array: Shaped[np.ndarray, "x y z *c"], turn: Turn) -> Shaped[np.ndarray, "X Y Z *c"]:
    """An array whose axes are the brain's own right, anterior and superior.

    `turned(_, turn.T)` undoes it.
    """
    axes = np.abs(turn).argmax(axis=0)
    array = array.transpose(*axes, *range(3, array.ndim))
    return np.flip(array, tuple(axis for axis in range(3) if turn[axes[axis], axis] < 0))


def turned_volume(volume: Volume, turn: Turn) -> Volume:
    """A scan as if its header were right, given how the brain lies by the header that it has.

    `native` stays the grid of the file.
    """
    axes = np.abs(turn).argmax(axis=0)
    to_old = np.eye(4)  # from the new voxels' indices to the old ones'
    to_old[:3, :3] = turn
    last = np.array(volume.shape) - 1
    to_old[:3, 3] = [last[axis] if turn[axis].sum() < 0 else 0 for axis in range(3)]
    world = np.eye(4)
    world[:3, :3] = turn.T
    data = np.ascontiguousarray(turned(volume.data, turn))
    assert data.shape[:3] == tuple(np.array(volume.shape)[axes])
    return replace(volume, data=data, affine=world @ volume.affine @ to_old)


def _block_means(
    data: Float32[np.ndarray, "x y z"], steps: list[int]
) -> Float32[np.ndarray, "X Y Z"]:
    x, y, z = (size // step for size, step in zip(data.shape, steps, strict=True))
    a, b, c = steps
    blocks = data[: x * a, : y * b, : z * c].reshape(x, a, y, b, z, c)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


_OPPOSITES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_AXES = ("left-right", "front-back", "vertical")
_MIRRORED = {
    (1, -1, -1): "in all three directions",
    (-1, 1, -1): "top to bottom",
    (-1, -1, 1): "front to back",
}


def _direction(vector: Int[np.ndarray, "3"]) -> str:
    axis = int(np.abs(vector).argmax())
    return _OPPOSITES[axis][int(vector[axis] > 0)]


def _movement(turn: Turn) -> str:
    """What was done to the brain, in words, as far as can be told."""
    signs = int(turn[0, 0]), int(turn[1, 1]), int(turn[2, 2])
    if 0 not in signs:
        axis = _AXES[signs.index(1)]
        return f"turned by 180 degrees about the {axis} axis, or mirrored {_MIRRORED[signs]}"
    kept = [axis for axis, sign in enumerate(signs) if sign == 1]
    if len(kept) == 1:
        return f"turned by 90 degrees about the {_AXES[kept[0]]} axis, or mirrored as well"
    return "turned so that its axes changed places, and perhaps mirrored as well"


@cache
def _turns() -> list[Turn]:
    """The 24 rotations by multiples of 90 degrees, that by none first."""
    found = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = np.zeros((3, 3), int)
            turn[list(axes), range(3)] = signs
            if np.linalg.det(turn) > 0:
                found.append(turn)
    return sorted(found, key=lambda turn: -int(np.trace(turn)))


@cache
def _tilts() -> Float[np.ndarray, "t 3 3"]:
    """Rotations from which to search on: heads are held aslant by up to 40 degrees."""
    angles = list(itertools.product((-_TILT_DEGREES, 0.0, _TILT_DEGREES), repeat=3))
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix()


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan at the places of the average brain.

    Attributes:
        outline: which share of each place is brain, of mean 0 and length 1.
        inside: the places that are brain.
        smooth: orthonormal, what a constant and a smooth change of brightness are made of.
        brightness: inside, without the smooth part, of length 1.
    """

    outline: Float[np.ndarray, " n"]
    inside: Bool[np.ndarray, " n"]
    smooth: Float[np.ndarray, "m q"]
    brightness: Float[np.ndarray, " m"]

    @classmethod
    def of(
        cls,
        image: Float32[np.ndarray, "x y z"],
        mask: Bool[np.ndarray, "x y z"],
        spacing: tuple[float, float, float],
    ) -> "_Scan":
        share, total = normalized(np.stack([mask, image * mask]), mask, spacing, ball_points()).T
        inside = share > 0.5
        brightness = total[inside] / share[inside]
        brightness = np.clip(brightness, *np.percentile(brightness, (1, 99)))
        at = ball_points()[inside]
        smooth, _ = np.linalg.qr(
            np.column_stack([np.ones(len(at)), at, (at**2).sum(axis=1)]).astype(np.float32)
        )
        brightness = brightness - smooth @ (smooth.T @ brightness)
        return cls(_unit(share - share.mean()), inside, smooth, _unit(brightness))


def _unit(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    length = float(np.linalg.norm(values))
    return values / length if length > 0 else values


def _fits(scan: _Scan, templates: Float32[np.ndarray, "r n c"]) -> Float[np.ndarray, " r"]:
    """How well each template, laid over the scan already, fits."""
    outline = templates[..., 0]
    deviation = outline.std(axis=1) * np.sqrt(outline.shape[1]) + 1e-6
    correlation = outline @ scan.outline / deviation  # The scan's has the mean 0.
    tissues = templates[:, scan.inside, 1:]
    tissues = tissues - scan.smooth @ (scan.smooth.T @ tissues)
    transposed = tissues.transpose(0, 2, 1)
    gram = transposed @ tissues + _RIDGE * len(scan.brightness) * np.eye(tissues.shape[-1])
    found = transposed @ scan.brightness
    explained = (found * np.linalg.solve(gram, found[..., None])[..., 0]).sum(axis=1)
    return correlation + explained


@cache
def _turned_templates() -> list[Float32[np.ndarray, "r n c"]]:
    """The average brain in each of the 24 orientations, each with all tilts."""
    tilted = brain_at(ball_points() @ _tilts())
    # The places are those of a grid about its center, which a turn only exchanges.
    steps = np.rint(ball_points() * (SIDE / REACH)).astype(int)
    where = {tuple(step): index for index, step in enumerate(steps.tolist())}
    return [tilted[:, [where[tuple(s)] for s in (steps @ turn).tolist()]] for turn in _turns()]


def _refine(
    scan: _Scan, turn: Turn, tilt: Float[np.ndarray, "3 3"]
) -> tuple[float, Float[np.ndarray, "3 3"]]:
    """The best fit near a tilt of an orientation, moved and scaled a little, and its rotation.

    A pattern search, which does not go where another of the 24 orientations would be nearer.
    """
    start = turn @ tilt
    place = np.zeros(7)  # a rotation vector in degrees, a shift, a logarithm of the scale
    steps = np.repeat(_STEPS, (3, 3, 1))
    best, halvings = float(_fits(scan, _placed(start, place[None]))[0]), 0
    for _ in range(_MOST_ROUNDS):
        tried = place + np.concatenate([np.diag(steps), -np.diag(steps)])
        nearest = [_turns()[index] for index in _nearest(_rotation(start, tried))]
        tried = tried[[np.array_equal(one, turn) for one in nearest]]
        fits = _fits(scan, _placed(start, tried))
        if fits.max() > best:
            best, place = float(fits.max()), tried[fits.argmax()]
        elif halvings < _HALVINGS:
            halvings += 1
            steps = steps / 2
        else:
            break
    return best, _rotation(start, place)


def _symmetry(
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    to_right: Float[np.ndarray, " 3"],
) -> float:
    """The Dice of a brain's outline with its mirror image across the plane through its center."""
    places = ball_points()
    mirrored = places - 2 * np.outer(places @ to_right, to_right)
    one, other = (normalized(mask[None], mask, spacing, at)[:, 0] for at in (places, mirrored))
    return float(2 * np.minimum(one, other).sum() / (one + other).sum())


def _rotation(
    start: Float[np.ndarray, "3 3"], place: Float[np.ndarray, "*p 7"]
) -> Float[np.ndarray, "*p 3 3"]:
    return start @ Rotation.from_rotvec(place[..., :3], degrees=True).as_matrix()


def _placed(
    start: Float[np.ndarray, "3 3"], places: Float[np.ndarray, "p 7"]
) -> Float32[np.ndarray, "p n c"]:
    turned_points = (ball_points() @ _rotation(start, places)) * np.exp(places[:, 6])[:, None, None]
    return brain_at(turned_points + places[:, None, 3:6])


def _nearest(rotations: Float[np.ndarray, "p 3 3"]) -> Int[np.ndarray, " p"]:
    """Which of the 24 orientations is nearest to each rotation."""
    return np.tensordot(rotations, np.stack(_turns()), axes=([1, 2], [1, 2])).argmax(axis=1)
