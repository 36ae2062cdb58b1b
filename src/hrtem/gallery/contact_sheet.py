"""A contact sheet of training examples over dose and defocus, with an optional comparison to a micrograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track

from hrtem.errors import InputError
from hrtem.gallery.nearest import Comparison, Pieces, cut
from hrtem.gallery.sheet import ContactSheet
from hrtem.micrograph import read
from hrtem.training.data import Example, WaveDataModule, collate, columns_of
from hrtem.training.task import Task

#: Number of doses, number of defoci for single images, and approximate number of images in a row of focal series.
DOSES, DEFOCI, IMAGES = 5, 5, 9

#: Settings in the small print, line by line: the format, and the conversion factor from the recipe's unit.
SMALL_PRINT = (
    {
        "Cs": ("Cs {:z.0f} µm", 1e-4),
        "focal_spread": ("spread {:.0f} Å", 1.0),
        "vibration": ("blur {:.2f} Å", 1.0),
        "drift": ("drift {:.1f} Å", 1.0),
    },
    {
        "astigmatism": ("A1 {:.0f} Å", 1.0),
        "coma": ("B2 {:.0f} Å", 1.0),
        "threefold": ("A2 {:.0f} Å", 1.0),
        "half": ("MTF ½ at {:.2f}/px", 1.0),
    },
)


def draw(config: DictConfig) -> Path:
    """Write the sheet of a configuration as a PNG file and return its path; an existing file is overwritten.

    Raises:
        InputError: a setting, the micrograph or the output path is invalid.
    """
    output = _output(config)
    contact_sheet(config).save(output)
    return output


def contact_sheet(config: DictConfig) -> ContactSheet:
    """Draw the sheet of a configuration of ``conf/gallery.yaml`` and print the comparison with a micrograph.

    Raises:
        InputError: a setting or the micrograph is invalid; this is checked before the simulation starts.
    """
    for name in ("waves", "examples"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {config[name]}.")
    micrograph = (
        read(config.micrograph, *(config[key] for key in ("sampling", "item", "frame"))) if config.micrograph else None
    )
    config.data.numbers = {"train": config.waves}
    data, task = instantiate(config.data), instantiate(config.task)
    real = None if micrograph is None else cut(micrograph, task, config.data.patch)
    data.prepare_data()
    grid = examples_over_dose_and_defocus(data, config.optics)
    above = int(real is not None)
    sheet = ContactSheet(config.data.patch, config.focal, len(grid[0]), above + len(grid), plots=2 * above)
    if micrograph is not None and real is not None:
        simulated, settings = random_examples(task, data, config.examples)
        name = "/".join(micrograph.source.parts[-2:])
        comparison = Comparison(name, real.statistics, simulated.statistics, settings)
        comparison.show()
        _compare(sheet, comparison, real, simulated)
    _fill(sheet, grid, task, first=above)
    width = config.data.patch * task.sampling
    text = f"{config.sample.name}: random training examples of {width:.1f} Å, true columns ringed on their right halves"
    sheet.headline(text, task.classes)
    return sheet


def examples_over_dose_and_defocus(data: WaveDataModule, optics: DictConfig) -> list[list[Example | None]]:
    """Simulate a training example at each dose (rows, log scale) and defocus (columns) of the recipe's ranges.

    Dose and defocus are fixed; all other settings are drawn at random as in training. An entry is None if no draw at
    this defocus reaches the ``lattice_contrast`` that the recipe requires.
    """
    number = DEFOCI if data.optics.num_images == 1 else max(2, IMAGES // data.optics.num_images)
    dose, defocus = data.optics.ranges["dose"], data.optics.defocus
    doses, defoci = np.geomspace(dose.low, dose.high, DOSES), np.linspace(defocus.low, defocus.high, number)
    images = data.images("train", DOSES * number)
    examples: list[Example | None] = []
    for count, (one_dose, one_defocus) in enumerate(product(doses.tolist(), defoci.tolist())):
        seen_by = instantiate(optics, dose=one_dose, defocus=one_defocus)
        images.imaging = replace(data.imaging, optics=seen_by)
        try:
            examples.append(images[count])
        except InputError:
            examples.append(None)
    return [examples[start : start + number] for start in range(0, len(examples), number)]


def random_examples(task: Task, data: WaveDataModule, number: int) -> tuple[Pieces, dict[str, np.ndarray]]:
    """Simulate the first training examples as the network sees them; their settings are ``(B,)`` or ``(B, F)``."""
    images = data.images("train", number)
    scenes, settings = [], []
    for start in track(range(0, number, data.batch_size), "Imaging", transient=True):
        batch = collate([images[n] for n in range(start, min(number, start + data.batch_size))])
        scenes.append(task.simulate(batch))
        settings.append(batch["settings"])
    arrays = {name: np.concatenate([scene[name].numpy() for scene in scenes]) for name in ("images", "counts")}
    named = {name: np.concatenate([one[name].numpy() for one in settings]) for name in settings[0]}
    return Pieces(**arrays, sampling=task.sampling), named


def _compare(sheet: ContactSheet, comparison: Comparison, real: Pieces, simulated: Pieces) -> None:
    """Fill the first row with the micrograph, the nearest example, spectra and histograms."""
    pieces, focal = real.images.shape[:2]
    note = (
        f"the most typical of {pieces} squares; beside it the one\n"
        f"of {len(simulated.images)} training examples nearest in spectrum"
    )
    sheet.series(0, 0, real.images[comparison.typical], [comparison.name] * focal, note)
    nearest = int(comparison.nearest[0])
    settings = {name: values[nearest] for name, values in comparison.settings.items()}
    heads = [f"nearest: {title}" for title in titles(settings)]
    sheet.series(0, 1, simulated.images[nearest], heads, small_print(settings))
    spectra, histograms = sheet.plots(0, 2)
    comparison.plot_spectra(spectra)
    comparison.plot_histograms(histograms)


def _fill(sheet: ContactSheet, grid: Sequence[Sequence[Example | None]], task: Task, first: int) -> None:
    """Draw a grid of examples, starting at row ``first``."""
    for row, examples in enumerate(grid, start=first):
        for group, example in enumerate(examples):
            if example is None:
                sheet.nothing(row, group, "training draws nothing here:\nlattice_contrast refuses it all")
                continue
            scene = task.simulate(collate([example]))
            (columns,) = columns_of(scene["positions"], scene["labels"], task.classes)
            settings = example["settings"]
            images = scene["images"][0].numpy()
            sheet.series(row, group, images, titles(settings), small_print(settings), columns, task.sampling)


def titles(settings: Mapping[str, np.ndarray]) -> list[str]:
    """Return a title with dose and defocus for each image of a series."""
    return [
        f"{float(settings['dose']):,.0f} e/Å², defocus {round(float(defocus))} Å" for defocus in settings["defocus"]
    ]


def small_print(settings: Mapping[str, np.ndarray]) -> str:
    """Return the other important settings of microscope and camera as two lines of text."""
    lines = (
        ", ".join(
            text.format(factor * float(settings[name])) for name, (text, factor) in line.items() if name in settings
        )
        for line in SMALL_PRINT
    )
    return "\n".join(lines)


def _output(config: DictConfig) -> Path:
    """Check and return the path of the output file."""
    path = Path(str(config.output))
    problem = None
    if path.suffix.lower() != ".png":
        problem = f"must be a PNG file, and {path} does not end in .png"
    elif not path.parent.is_dir():
        problem = f"must lie in a folder that exists, and {path.parent} does not"
    elif path.is_dir():
        problem = f"must be a PNG file, and {path} is a folder"
    elif config.micrograph and path.exists() and path.samefile(config.micrograph):
        problem = f"must not overwrite the micrograph, and {path} is it"
    if problem is not None:
        raise InputError(f"output {problem}.")
    return path
