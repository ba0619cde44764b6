"""Sessions and file names of BIDS trees.

The Brain Imaging Data Structure (Gorgolewski et al., Scientific Data 3, 2016) names a file by
entities and a suffix, `sub-01_ses-02_desc-brain_mask.nii.gz`, in the folder of its session,
`sub-01/ses-02/anat`, or of its subject where there are no sessions, `sub-01/anat`.
"""

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(
    r"(?P<entities>sub-[^_]+(?:_[A-Za-z0-9]+-[^_]+)*)_(?P<suffix>[^-.]+)\.nii(?:\.gz)?"
)


@dataclass(frozen=True)
class BidsFile:
    """A volume, by its name.

    Attributes:
        path: where it is.
        entities: the name's keys and values, as in `{"sub": "01", "desc": "brain"}`.
        suffix: what follows them, as in `mask`; `T2w_restore` in names that are older than BIDS'
            rules for derivatives.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def session_id(self) -> str:
        """Which session the name says it is of, as `Session.case_id` has it."""
        return "_".join(f"{k}-{self.entities[k]}" for k in ("sub", "ses") if k in self.entities)


@dataclass(frozen=True)
class Session:
    """One visit of one participant.

    Attributes:
        participant: the folder's name, as in `sub-01`.
        name: the folder's name, as in `ses-02`; empty where the subject's folder has no sessions.
        folder: the folder, which `anat` lies in.
    """

    participant: str
    name: str
    folder: Path

    @property
    def case_id(self) -> str:
        """As file names begin: `sub-01_ses-02`, or `sub-01`."""
        return "_".join(filter(None, (self.participant, self.name)))

    def owns(self, file: BidsFile) -> bool:
        """Whether the file's name says that it is of this session."""
        return file.session_id == self.case_id

    def within(self, tree: Path) -> "Session":
        """The same session in another tree, say a derivative's, whether it is there or not."""
        return Session(self.participant, self.name, tree / self.participant / self.name)

    def volumes(self) -> list[BidsFile]:
        """The volumes in `anat` that have a name by BIDS, another session's too, by name."""
        return parse_files(self.folder.glob("anat/sub-*"))


def find_sessions(tree: Path, participant: str = "", name: str = "") -> tuple[Session, ...]:
    """The sessions right below `tree` that have an `anat` folder, by participant and name.

    Of one participant, as in `sub-01`, if that is given, and of one name, as in `ses-02`.
    """
    subjects, sessions = glob.escape(participant) or "sub-*", glob.escape(name) or "ses-*"
    found = [
        Session(subject.name, "", subject)
        for subject in tree.glob(subjects)
        if (subject / "anat").is_dir() and not name
    ]
    found += [
        Session(folder.parent.name, folder.name, folder)
        for folder in tree.glob(f"{subjects}/{sessions}")
        if (folder / "anat").is_dir()
    ]
    return tuple(sorted(found, key=lambda session: (session.participant, session.name)))


def parse_files(paths: Iterable[Path]) -> list[BidsFile]:
    """Those of the paths that are `.nii` or `.nii.gz` with a name by BIDS, in order.

    Links that lead nowhere are among them, as data that is yet to be fetched has them: reading
    them says what is missing.
    """
    parsed = ((path, _NAME.fullmatch(path.name)) for path in sorted(paths))
    return [
        BidsFile(path, parse_entities(match["entities"]), match["suffix"])
        for path, match in parsed
        if match and not path.is_dir()
    ]


def parse_entities(text: str) -> dict[str, str]:
    """`sub-01_ses-02` as keys and values; parts without a hyphen are none."""
    return {
        key: value for key, hyphen, value in (p.partition("-") for p in text.split("_")) if hyphen
    }


def bare(label: str) -> str:
    """An id without `sub-` or `ses-`, as tables often have it."""
    return label.removeprefix("sub-").removeprefix("ses-")
