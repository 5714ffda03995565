"""Finds operator functions that take C++ float or int: through the stable ABI those compile and receive garbage."""

import re
import sys
from pathlib import Path


def offences(source: str) -> list[str]:
    """Arguments of boxed functions that are neither double, int64_t nor what else the ABI passes."""
    found = []
    for name in re.findall(r"TORCH_BOX\(&(?:\w+::)*(\w+)\)", source):
        signature = re.search(rf"\b{name}\(([^)]*)\)\s*\{{", source)
        if signature is None:
            found.append(f"{name}: no definition in this file")
            continue
        for argument in signature.group(1).split(","):
            if re.search(r"\b(float|int|unsigned|long|size_t|int32_t)\b(?!\w)", argument):
                found.append(f"{name}: `{' '.join(argument.split())}` must be double or int64_t")
    return found


def main(folder: str) -> int:
    paths = sorted(path for pattern in ("*.cpp", "*.cu") for path in Path(folder).rglob(pattern))
    problems = [f"{path}: {problem}" for path in paths for problem in offences(path.read_text())]
    print("\n".join(problems) or f"{len(paths)} files: every boxed argument is one the stable ABI passes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
