"""`python -m dfmodels`, the same as the command `dfmodels`."""

import sys

from dfmodels.cli import main

sys.exit(main())
