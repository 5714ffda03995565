"""Pages that need nothing but a browser: one file of HTML with its style, script and pictures inside.

A page is a template that extends `page.html` and fills its blocks `title` and `content`. Whatever a template prints is
made printable and escaped, so that names of files and notes of weights are shown and never run; the page itself allows
no script but its own, and no address outside it.
"""

import base64
import hashlib
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from dfmodels.files import printable
from dfmodels.optional import require


def _shown(value: Any) -> Any:
    return value if hasattr(value, "__html__") else printable(str(value))


ENVIRONMENT = Environment(
    loader=PackageLoader("dfmodels.scoring"),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _script() -> Markup:
    loader = ENVIRONMENT.loader
    assert loader is not None
    return Markup(loader.get_source(ENVIRONMENT, "page.js")[0])


SCRIPT = _script()
ENVIRONMENT.globals |= {
    "script": SCRIPT,
    "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
}


def picture(image: NDArray[np.uint8], side: int, quality: int = 80) -> str:
    """An image as the address of an `img`, reduced so that neither side is longer than `side` pixels.

    Args:
        image: (H, W, 3), uint8 RGB.
        side: pixels, at least 1.
        quality: of WebP, 1 to 100.
    """
    cv2 = require("cv2", "pictures in a page")
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
