"""Makes docs/report-light.png, docs/report-dark.png and docs/picture.png: a report and a picture of rendered people.

Run as `python -m docs.report` in the root of the repository; needs Chromium.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from dfmodels.scoring.plots import plot_video
from dfmodels.scoring.report import Report
from tests.scoring.scores import SEVERAL, gallery, make_score

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1200, 1960
SCHEMES = {"dark": 0, "light": 1}  # as Chromium numbers them
OFFLINE = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


def photograph(page: Path, scheme: str, out: Path) -> None:
    """The top of a page as a browser shows it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *OFFLINE]
    options += [
        f"--user-data-dir={page.parent / 'profile'}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
    ]
    subprocess.run(
        ["chromium", *options, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out}", page.as_uri()],
        check=True,
        capture_output=True,
    )


def shrink(path: Path, width: int = 1000) -> None:
    image = Image.open(path).convert("RGB")
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.quantize(256, kmeans=2).save(path, optimize=True)


def main() -> None:
    command = "dfmodels score films/ --weights runs/stil/best.safetensors --report report.html"
    with TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        with Report(
            page, command=command, settings={"faces": "auto", "people judged": "largest", "clips": "8"}
        ) as report:
            for score in gallery():
                report.add(score)
        for scheme in SCHEMES:
            photograph(page, scheme, HERE / f"report-{scheme}.png")
            shrink(HERE / f"report-{scheme}.png")
    plot_video(
        make_score("team call.mp4", seconds=640, seed=3, warnings=(), moments=1, **SEVERAL), HERE / "picture.png"
    )
    shrink(HERE / "picture.png", 1200)


if __name__ == "__main__":
    main()
