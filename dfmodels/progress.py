"""Progress bars, which `dfmodels --quiet` and the level of the logger "dfmodels" switch off."""

import logging
from typing import Any

from tqdm import tqdm


def progress_bar(*arguments: Any, shown: bool = True, **options: Any) -> Any:
    """A bar of tqdm on terminals; none if not `shown`, or if the logger "dfmodels" was set to warnings or above."""
    quiet = logging.getLogger("dfmodels").level >= logging.WARNING
    return tqdm(*arguments, disable=None if shown and not quiet else True, **options)
