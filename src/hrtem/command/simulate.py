"""Simulate a movie: ``hrtem simulate dynamics=oxygen optics.dose=500 number=3 output=movie``.

The command accepts all words of ``hrtem train``, and the words in conf/movie.yaml. It makes a folder with ``movie.mrc``
and the ground truth: ``sites.csv``, ``occupancy.csv``, ``frames.csv``, ``hops.csv`` and ``truth.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import mrcfile
import numpy as np
import yaml

from hrtem import commandline, folders
from hrtem.command.train import FILES
from hrtem.movies.simulation.movie import SimulatedMovie, settings_of
from hrtem.recipes import compose


def write_movie(path: Path, frames: Iterator[np.ndarray], number: int, shape: tuple[int, int], sampling: float) -> None:
    """Write frames ``(Y, X)`` one by one into an MRC stack."""
    with mrcfile.new_mmap(path, shape=(number, *shape), mrc_mode=2, overwrite=True) as file:
        folders.reserve(path)
        for place, frame in enumerate(frames):
            file.data[place] = frame
        file.set_image_stack()
        file.voxel_size = sampling
        file.update_header_stats()


def main(words: Sequence[str]) -> None:
    """Simulate the movie that the words of a command line specify."""
    config = compose(*commandline.quote_words(words, keys=(*FILES, "output")), name="movie")
    movie = SimulatedMovie.of(config)
    settings = yaml.safe_dump(settings_of(config), sort_keys=False)
    output = config.output or f"movies/{movie.dynamics.name}-{movie.number}"
    with folders.results(output, "movies", settings) as (place, final):
        movie.simulate(config.wave.scheduler)
        write_movie(place / "movie.mrc", movie.frames(), movie.dynamics.frames, movie.shape, movie.sampling)
        truth = movie.truth()
        truth.write(place)
    said = f"{movie.dynamics.frames} frames, {len(truth.hops)} hops"
    print(f"{said}, surface columns leave at {truth.rate():.4f} 1/s: {final}")
