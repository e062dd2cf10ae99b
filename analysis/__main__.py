"""Draw the figures of a run and write its claims: `python -m analysis --workdir=DIR`."""

import sys

from analysis import main

sys.exit(main())
