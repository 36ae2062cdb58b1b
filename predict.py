"""Find atoms: ``python predict.py model=graphene images=image.dm3``, the same as ``hrtem find …``."""

import sys

from hrtem.command.find import main
from hrtem.commandline import end_in_one_sentence, prepare

if __name__ == "__main__":
    prepare()
    with end_in_one_sentence():
        main(sys.argv[1:])
