"""Settings that go together, for configs to start from: `configs/*.py` and the demo use them.

Each changes a config in place.
"""

from infant_seg_jax.config import Config


def fit_two_cores(config: Config) -> None:
    """A narrower network on smaller patches, with a rate to match: hours become an hour."""
    config.patch.shape = (48, 48, 48)
    config.patch.batch_size = 2
    config.model.growth_rate = 12
    config.model.stem_features = 16
    config.model.dropout_rate = 0.0
    config.loss.name = "cross_entropy_dice"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.l2 = 1e-5
    config.optimizer.schedule = "cosine"
    config.inference.window = (96, 96, 96)
    config.inference.overlap = 0.25


def fit_one_gpu(config: Config, minutes: float) -> None:
    """As many steps in bfloat16 as there is time for, then one validation."""
    config.patch.batch_size = 16
    config.model.dtype = "bfloat16"
    config.minutes = minutes
    config.steps = 1_000_000
    config.validate_every = 1_000_000
    config.save_every = 1_000


def augment_lightly(config: Config) -> None:
    """Mirrored, and a little brighter or darker: for little time, or many scans of one scanner."""
    config.augmentation.flip = 0.5
    config.augmentation.gain = 0.1
    config.augmentation.offset = 0.1


def augment_fully(config: Config) -> None:
    """Everything that scans of other subjects and scanners may differ by, save contrast."""
    augment_lightly(config)
    config.augmentation.affine = 0.5
    config.augmentation.elastic = 0.2
    config.augmentation.gamma = 0.3
    config.augmentation.bias_field = 0.3
    config.augmentation.blur = 0.2
    config.augmentation.thick_slices = 0.2
    config.augmentation.gaussian_noise = 0.1
    config.augmentation.rician_noise = 0.1


def train_robustly(config: Config) -> None:
    """Cross entropy with Dice, AdamW with warm-up, clipping and cosine, and averaged weights."""
    config.loss.name = "cross_entropy_dice"
    config.patch.balanced = 0.3
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.l2 = 1e-2
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 500
    config.optimizer.clip_norm = 1.0
    config.average_decay = 0.999


def render_every_example(config: Config, anatomies: str) -> None:
    """Examples of any contrast, newborns' and those of five to seven months more often than others.

    Deformed and under a bias field they are rendered; the augmentations do the rest. In prediction
    the scan itself then tells what contrast it has.
    """
    config.rendering.path = anatomies
    config.rendering.fraction = 1.0
    config.rendering.ages = (0.0, 3.0, 0.0, 3.0, 5.0, 7.0, 0.0, 60.0)
    config.rendering.unordered = 0.1
    config.augmentation.flip = 0.5
    config.augmentation.gamma = 0.3
    config.augmentation.blur = 0.3
    config.augmentation.thick_slices = 0.25
    config.augmentation.thickness = 3.0
    config.augmentation.rician_noise = 0.2
    config.augmentation.noise_deviation = 0.15
    config.augmentation.gain = 0.2
    config.augmentation.offset = 0.3
    config.inference.refine = True


def render_like_real_newborns(config: Config) -> None:
    """Noisier, with less contrast, with regions that differ, stripped more and less tightly."""
    config.rendering.unordered = 0.2
    config.rendering.fluid_spread = 0.08
    config.rendering.regions = 0.08
    config.rendering.partial_volume = 1.0
    config.rendering.noise = 0.07
    config.rendering.stripped = 0.8
    config.rendering.loose = 0.35
    config.rendering.rotation = 25.0


def fine_tune(config: Config, checkpoint: str) -> None:
    """Start from a run's weights, at a lower rate, for a quarter of the steps."""
    config.init.checkpoint = checkpoint
    config.optimizer.learning_rate /= 5
    config.optimizer.warmup //= 5
    config.steps //= 4
    config.validate_every //= 4
