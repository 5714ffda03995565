"""Indexes: one row a video, with its label, its split and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dfmodels.video.images import list_images

REAL = "real"
SPLITS = ("train", "val", "test")
COLUMNS = ("path", "label", "split", "dataset", "method", "id", "target", "source", "compression")


@dataclass(frozen=True)
class Video:
    """One row of an index.

    Attributes:
        path: a film, or a folder of frames or of face crops; absolute.
        label: 0 real, 1 fake.
        split: one of SPLITS.
        dataset: name of the data set.
        method: REAL, or the manipulation.
        id: "071" of a real video of FaceForensics++, "071_054" of a fake one; the stem of the path unless said.
        target, source: identities of a forgery where known, else empty.
        compression: as "c23"; empty where unknown.
        extra: further columns by name.
    """

    path: Path
    label: int
    split: str
    dataset: str = ""
    method: str = ""
    id: str = ""
    target: str = ""
    source: str = ""
    compression: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the video among all others."""
        return str(self.path)

    @property
    def identities(self) -> frozenset[tuple[str, str]]:
        """(data set, name) of everybody in it: of a real one its id, of a fake one its target and source."""
        names = (self.id,) if self.label == 0 else (self.target, self.source)
        return frozenset((self.dataset, name) for name in names if name)

    @cached_property
    def frames(self) -> tuple[Path, ...]:
        """Images of a folder in their natural order; none of a film, or where there is nothing."""
        return tuple(list_images(self.path)) if self.path.is_dir() else ()
