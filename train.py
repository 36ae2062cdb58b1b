"""Simulate, train and test: ``python train.py sample=mos2 focal=3``, the same as ``hrtem train …``."""

from hrtem.command.train import start
from hrtem.commandline import end_in_one_sentence

if __name__ == "__main__":
    with end_in_one_sentence():
        start()
