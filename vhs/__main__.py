"""`python -m vhs`: the command `vhs` of a checkout or a folder that is not installed."""

import sys

from vhs.commands import main

if __name__ == "__main__":
    sys.exit(main(called="python -m vhs"))
