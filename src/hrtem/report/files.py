"""All output files of one micrograph: tables, structures, maps, overlays and the HTML page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import write

import hrtem
from hrtem.report.frame import Frame, frame_numbers
from hrtem.report.overlay import overlay, overlay_svg
from hrtem.report.page import write_page
from hrtem.report.tables import fields_of, write_csv, write_parquet

#: Depth of the cell around a sheet in structure files, Å.
DEPTH = 10.0


def write_files(frames: Sequence[Frame], folder: Path, title: str, settings: Mapping[str, Any] | None = None) -> None:
    """Write all results of one micrograph, or of the frames of one movie, into a folder.

    The files are ``atoms.csv``, ``atoms.parquet``, ``atoms.extxyz``, ``atoms.cif``, ``maps.hspy`` if there are maps,
    ``report.html``, and ``overlay.png`` and ``overlay.svg``, numbered for several frames.

    Args:
        frames: at least one frame, all from the same model.
        folder: an empty folder.
        title: name of the micrograph.
        settings: settings listed on the page.
    """
    fields = fields_of(frames)
    write_csv(fields, folder / "atoms.csv")
    write_parquet(fields, folder / "atoms.parquet")
    write_structures(frames, folder)
    if all(frame.maps is not None for frame in frames):
        write_maps(frames, folder / "maps.hspy", title)
    for number, frame in zip(frame_numbers(frames), frames, strict=True):
        name = "overlay" if len(frames) == 1 else f"overlay-{number:04d}"
        overlay(frame.image, frame.columns, frame.sampling, folder / f"{name}.png", frame.marks)
        overlay_svg(frame.image, frame.columns, frame.sampling, folder / f"{name}.svg", frame.marks)
    write_page(frames, fields, folder / "report.html", title, settings or {})


def element(name: str) -> str:
    """Element of a class name such as ``Mo``, ``S`` or ``S2``; ``X`` if the name contains no element."""
    found = re.fullmatch(r"([A-Z][a-z]?)\d*", name)
    return found.group(1) if found and found.group(1) in atomic_numbers else "X"


def atoms_of(frame: Frame) -> Atoms:
    """Convert the columns of a frame to a sheet at z = 0 in a cell of the size of the field of view.

    Each column becomes one atom. x runs to the right, y down and z along the beam, into the image, so that the
    axes are right-handed. The arrays are class, probability, sigma_pm and, if atoms are counted, count. In class names
    a space is ``_``, and characters that the file formats cannot contain are percent-encoded (``%CE%B1`` for α).
    """
    columns = frame.columns
    symbols = [element(name) for name in columns.classes]
    rows, width = frame.image.shape
    atoms = Atoms(
        [symbols[label] for label in columns.labels],
        positions=np.column_stack([columns.positions, np.zeros(len(columns))]),
        cell=[width * frame.sampling, rows * frame.sampling, DEPTH],
        pbc=False,
    )
    words = [quote(name.replace(" ", "_"), safe="()[]{}*+=@,;:?$!&|/") or "%20" for name in columns.classes]
    atoms.set_array("class", np.array([words[label] for label in columns.labels], str))
    atoms.set_array("probability", columns.probabilities)
    atoms.set_array("sigma_pm", 100.0 * columns.sigmas)
    if columns.counts.any():
        atoms.set_array("count", columns.counts)
    return atoms


def write_structures(frames: Sequence[Frame], folder: Path) -> None:
    """Write ``atoms.extxyz`` and ``atoms.cif``, with one structure per frame and the number of the frame in each."""
    numbers, sheets = frame_numbers(frames), [atoms_of(frame) for frame in frames]
    for number, sheet in zip(numbers, sheets, strict=True):
        sheet.info["frame"] = number
    write(folder / "atoms.extxyz", sheets, format="extxyz")
    blocks = (_cif(sheet, number) for number, sheet in zip(numbers, sheets, strict=True))
    (folder / "atoms.cif").write_bytes(b"".join(blocks))


def _cif(sheet: Atoms, number: int) -> bytes:
    """CIF data block of one structure, named ``image0`` and so on; without atoms, it contains only the cell."""
    if not len(sheet):
        lengths = zip("abc", sheet.cell.lengths(), strict=True)
        lines = [f"data_image{number}", *(f"_cell_length_{axis}  {length:.10g}" for axis, length in lengths)]
        lines += [f"_cell_angle_{angle}  90" for angle in ("alpha", "beta", "gamma")]
        return ("\n".join(lines) + "\n\n").encode()
    facts = {f"hrtem_{name}": [list(map(str, sheet.arrays[name]))] for name in ("class", "probability", "sigma_pm")}
    block = io.BytesIO()
    write(block, sheet, format="cif", wrap=False, loop_keys=facts)
    return block.getvalue().replace(b"data_image0", f"data_image{number}".encode(), 1)


def write_maps(frames: Sequence[Frame], path: Path, title: str) -> None:
    """Write the network output as a HyperSpy signal ``(frame, channel, Y, X)``.

    Frame and channel axes of length 1 are left out.

    Args:
        frames: frames with maps of one shape.
        path: path of the ``.hspy`` file.
        title: title of the signal.
    """
    from rsciio import hspy

    first = frames[0]
    maps = [frame.maps for frame in frames if frame.maps is not None]
    data = np.stack(maps) if len(maps) > 1 else maps[0][None]
    names = ("frame", "channel", "y", "x")
    scales = (1.0, 1.0, first.map_sampling, first.map_sampling)
    kept = [axis for axis in range(4) if axis > 1 or data.shape[axis] > 1]
    axes = [
        {
            "_type": "UniformDataAxis",
            "name": names[axis],
            "units": "Å" if axis > 1 else "",
            "scale": scales[axis],
            "offset": 0.0,
            "size": data.shape[axis],
            "navigate": axis < 2,
            "is_binned": False,
        }
        for axis in kept
    ]
    signal = {
        "data": data.reshape([data.shape[axis] for axis in kept]),
        "axes": axes,
        "metadata": {
            "General": {"title": title},
            "Signal": {"signal_type": "", "quantity": "network output"},
            "Sample": {"classes": list(first.columns.classes)},
        },
        "original_metadata": {},
        "package_info": {"package": "hrtem", "package_version": hrtem.__version__},
        "tmp_parameters": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
    }
    hspy.file_writer(path, signal, compression="gzip", compression_opts=1, show_progressbar=False)
