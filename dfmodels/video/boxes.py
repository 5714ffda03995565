"""Face boxes from a JSON file."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.video.frame import Frame, VideoError

Boxes = NDArray[np.float64]
MOST_DIGITS = 18  # of a frame number
FARTHEST = 1e9  # pixels from the corner of the video; not a number is never within


class BoxesFile:
    """Face boxes read from a JSON file.

    The file holds `{"12": [[x0, y0, x1, y1], ...], ...}`: frame numbers, counted from 0, to boxes in pixels of the
    video as it is shown (x0 < x1 rightwards, y0 < y1 downwards); a fifth number is the score, 1 where it is missing,
    ten more are x and y of five landmarks in the order of `align_face`. A frame that is not listed, or has null for its
    boxes, shows no face. For several videos, `{"video.mp4": {"12": ...}, ...}` by file or folder name.

    Raises:
        ValueError: a file that is missing or has another form; file, key and expected form are named.
    """

    whole_frame = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = f"boxes:{os.fspath(path)}"
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():  # reading a pipe would wait for a writer for ever
            raise ValueError(f"{self.path}: expected a boxes file in JSON, this is no file")
        try:
            content = json.loads(self.path.read_text("utf-8-sig"), object_pairs_hook=unique)
        except OSError as error:
            raise ValueError(f"{self.path}: the boxes file cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}: expected a boxes file in JSON, got {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{self.path}: expected an object of frame numbers to boxes, got {kind(content)}")
        self._all: dict[int, Boxes] | None = None
        self._videos: dict[str, dict[int, Boxes]] = {}
        values = content.values()
        if any(isinstance(value, dict) for value in values) and all(isinstance(v, dict | NoneType) for v in values):
            for video, frames in content.items():
                self._videos[normal(video)] = self._frames(frames or {}, f"video {video!r}, ")
        else:
            self._all = self._frames(content, "")

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Boxes (N, 5) x0, y0, x1, y1, score of a frame.

        Raises:
            VideoError: the file lists several videos and `path` is none of them.
        """
        return self.detect_landmarks(frame, path)[:, :5]

    def detect_landmarks(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Like `detect`, with the landmarks (N, 15); NaN where the file has none."""
        frames = self._all
        if frames is None:
            # A path like `.` or `clips/..` has no name of its own.
            video = normal(Path(path).name or Path(path).resolve().name)
            if video not in self._videos:
                known = ", ".join(sorted(self._videos)[:5])
                raise VideoError(f"{os.fspath(path)}: {self.path} has no boxes for {video!r}, it lists {known}")
            frames = self._videos[video]
        return frames.get(frame.index, np.empty((0, 15)))

    def _frames(self, content: dict[str, Any], where: str) -> dict[int, Boxes]:
        result: dict[int, Boxes] = {}
        for key, boxes in content.items():
            place = f"{self.path}: {where}key {key!r}"
            if not (key.isascii() and key.isdigit() and len(key) <= MOST_DIGITS):
                raise ValueError(f"{place}: expected a frame number such as '12'")
            if not isinstance(boxes, list | NoneType):
                raise ValueError(f"{place}: expected a list of boxes [[x0, y0, x1, y1], ...], got {kind(boxes)}")
            if int(key) in result:
                raise ValueError(f"{place}: frame {int(key)} is listed twice")
            result[int(key)] = np.array([read_box(box, place) for box in boxes or ()], np.float64).reshape(-1, 15)
        return result


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError for a key that occurs twice, of which only the last would count."""
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} twice")
    return result


def read_box(box: Any, place: str) -> list[float]:
    """Fifteen numbers x0, y0, x1, y1, score, landmarks; NaN for landmarks that are not given."""
    numbers = isinstance(box, list) and all(type(value) in (int, float) and abs(value) <= FARTHEST for value in box)
    if not numbers or len(box) not in (4, 5, 15):
        raise ValueError(
            f"{place}: expected a box of four numbers [x0, y0, x1, y1], five with its score, or fifteen with five "
            f"landmarks, got {box}"
        )
    x0, y0, x1, y1, score = (float(value) for value in (*box, 1.0)[:5])
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"{place}: expected corners with x0 < x1 and y0 < y1, not width and height, got {box}")
    landmarks = [float(value) for value in box[5:]] or [math.nan] * 10
    return [x0, y0, x1, y1, score, *landmarks]


def normal(name: str) -> str:
    """One form of composed letters: file systems and editors differ in how they write an umlaut."""
    return unicodedata.normalize("NFC", name)


def kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
