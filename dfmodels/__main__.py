"""`python -m dfmodels`, the same as the command `dfmodels`."""

import sys

from dfmodels.cli import main

if __name__ == "__main__":  # a process that loads samples imports this too
    sys.exit(main())
