"""`dfmodels app`, whose verdicts wait while a file exists: `python -m tests.app.gated FILE ARGUMENTS...`."""

import sys
import time
from pathlib import Path

from dfmodels.cli import main
from dfmodels.scoring import app

GATE = Path(sys.argv[1])
score_video = app.score_video


def gated(*arguments, progress, **options):
    while GATE.exists():
        progress(1, 3)
        time.sleep(0.02)
    return score_video(*arguments, progress=progress, **options)


if __name__ == "__main__":
    app.score_video = gated
    sys.exit(main(["app", *sys.argv[2:]]))
