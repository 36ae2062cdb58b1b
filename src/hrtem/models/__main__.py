"""``python -m hrtem.models`` lists the shipped models; ``… export best.ckpt NAME [notes=card.md]`` makes one."""

from __future__ import annotations

import sys

from hrtem import models
from hrtem.errors import InputError
from hrtem.runs import told_in_one_sentence
from hrtem.task import ColumnFinder


def main(words: list[str]) -> None:
    """List the models, or export one.

    Raises:
        InputError: the words are none of these, or what they name cannot be used.
    """
    if not words:
        for name in models.names():
            task = ColumnFinder.load(models.find(name))
            takes = f"{task.optics.num_images} image{'s' if task.optics.num_images > 1 else ''}"
            print(f"{name}: {', '.join(task.classes)} from {takes}, {models.checksum(name)[:12]}, {models.find(name)}")
        if not models.names():
            print("No models come with this package; a path to a model's folder or to a checkpoint works as well.")
        return
    notes = [word.removeprefix("notes=") for word in words if word.startswith("notes=")]
    rest = [word for word in words if not word.startswith("notes=")]
    if len(rest) != 3 or rest[0] != "export" or len(notes) > 1:
        raise InputError("say: python -m hrtem.models, or python -m hrtem.models export CHECKPOINT NAME [notes=FILE].")
    folder = models.export(rest[1], rest[2], notes[0] if notes else None)
    print(f"The model is in {folder}; its card, {folder / 'card.md'}, wants to be read before others get it.")


if __name__ == "__main__":
    with told_in_one_sentence():
        main(sys.argv[1:])
