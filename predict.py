"""Find atoms: ``python predict.py model=graphene images=image.dm3``, the same as ``hrtem find …``."""

import sys

from hrtem.command import main

if __name__ == "__main__":
    main(["find", *sys.argv[1:]])
