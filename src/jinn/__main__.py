"""``python -m jinn``, which torchrun needs: ``torchrun ... -m jinn train ...``."""

import sys

from jinn.cli import main

if __name__ == "__main__":
    sys.exit(main())
