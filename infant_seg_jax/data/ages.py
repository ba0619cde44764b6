"""How old someone was at a scan, in the unit that the dataset gives."""

from dataclasses import dataclass

from infant_seg_jax.errors import InputError

WEEKS_OF_GESTATION = 40
"""A term birth, in weeks after the last menstruation, from which postmenstrual ages are counted."""

_WEEKS_PER_YEAR = 365.25 / 7
_MONTHS = {
    "days": 12 / 365.25,
    "weeks": 12 / _WEEKS_PER_YEAR,
    "weeks postmenstrual": 12 / _WEEKS_PER_YEAR,
    "months": 1.0,
    "years": 12.0,
}
AGE_UNITS = tuple(_MONTHS)
_OLDEST = 150 * 12


@dataclass(frozen=True)
class Age:
    """An age at a scan.

    Attributes:
        value: in `unit`.
        unit: one of `AGE_UNITS`; postmenstrual weeks are about 40 at a birth at term.
    """

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in _MONTHS:
            raise InputError(
                f"'{self.unit}' is not a unit of age, expected {', '.join(AGE_UNITS)}."
            )
        if not 0 <= self.value * _MONTHS[self.unit] <= _OLDEST:
            raise InputError(f"{self.value:g} {self.unit} is not an age, expected 0 to 150 years.")

    @property
    def months(self) -> float:
        """Months since birth at term, so that ages compare; negative before that."""
        born = WEEKS_OF_GESTATION if self.unit == "weeks postmenstrual" else 0
        return (self.value - born) * _MONTHS[self.unit]

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


def parse_age(text: str, unit: str) -> Age | None:
    """An age as a table gives it; None where it gives none, as in `n/a`, or no plausible number."""
    try:
        return Age(float(text), unit)
    except ValueError:
        return None
