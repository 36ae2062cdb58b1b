"""Tables and pictures."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import replace
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from ase.io import read
from imageio.v3 import imread
from pyarrow import parquet
from rsciio import hspy

from hrtem import csv_files, report
from hrtem.calibration.measurement import Reliability
from hrtem.columns import Columns
from hrtem.matching import Score
from hrtem.report.files import element, write_maps, write_structures
from hrtem.report.structures import structure_figure
from hrtem.structure import Mark, analyse
from hrtem.training.reliability import save_reliability
from hrtem.training.scores import print_scores, save_scores


def columns():
    return Columns(
        [[1.0, 2.0], [3.0, 0.5]],
        [0, 1],
        ("Mo", "S2"),
        probabilities=[0.9, 0.75],
        sigmas=[0.08, 0.125],
        class_probabilities=[[0.8, 0.1], [0.05, 0.7]],
    )


def frame(**facts):
    image = np.random.default_rng(1).normal(size=(40, 50)).astype(np.float32)
    maps = np.random.default_rng(2).random((2, 20, 25), dtype=np.float32)
    given = {"columns": columns(), "maps": maps, "map_sampling": 0.5, "in_domain": False} | facts
    return report.Frame(image, sampling=0.25, **given)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_table(tmp_path):
    report.write_csv(report.fields_of([frame()]), tmp_path / "atoms.csv")
    assert rows_of(tmp_path / "atoms.csv") == [
        ["frame", "id", "x_A", "y_A", "x_px", "y_px", "class", "probability", "p_Mo", "p_S2", "sigma_pm", "in_domain"],
        ["0", "0", "1.0000", "2.0000", "4.000", "8.000", "Mo", "0.9000", "0.8000", "0.1000", "8.00", "0"],
        ["0", "1", "3.0000", "0.5000", "12.000", "2.000", "S2", "0.7500", "0.0500", "0.7000", "12.50", "0"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["atoms.csv"]


def test_table_of_frames_with_counts_extras_and_nothing_found(tmp_path):
    counted = Columns([[1.0, 2.0]], [0], ("Mo", "S2"), counts=[2], count_probabilities=[[0.2, 0.8]])
    nothing = Columns([], [], ("Mo", "S2"))
    frames = [
        frame(columns=counted, in_domain=None, extras={"e_xx": np.array([np.nan]), "site": np.array(["a, b"])}),
        frame(columns=nothing),
        frame(extras={"bonds": np.array([3, 2])}),
    ]
    report.write_csv(report.fields_of(frames), tmp_path / "atoms.csv")
    header, *rows = rows_of(tmp_path / "atoms.csv")
    assert header[-7:] == ["count", "p_count", "sigma_pm", "in_domain", "e_xx", "site", "bonds"]
    assert [row[:2] for row in rows] == [["0", "0"], ["2", "1"], ["2", "2"]]
    assert [row[-7:] for row in rows] == [
        ["2", "0.8000", "0.00", "", "", "a, b", ""],
        ["0", "", "8.00", "0", "", "", "3"],
        ["0", "", "12.50", "0", "", "", "2"],
    ]
    with pytest.raises(ValueError, match="x_A"):
        report.fields_of([frame(extras={"x_A": np.zeros(2)})])
    with pytest.raises(ValueError, match=r"bonds .* 2 columns"):
        frame(extras={"bonds": np.zeros(3)})


def test_parquet_holds_what_the_csv_holds(tmp_path):
    fields = report.fields_of([frame(extras={"e_xx": np.array([np.nan, 0.01])}), frame(in_domain=None)])
    report.write_parquet(fields, tmp_path / "atoms.parquet")
    table = parquet.read_table(tmp_path / "atoms.parquet")
    assert table.column_names == [field.name for field in fields]
    found = table.to_pydict()
    assert found["frame"] == [0, 0, 1, 1]
    assert found["x_A"] == [1.0, 3.0, 1.0, 3.0]
    assert found["class"] == ["Mo", "S2"] * 2
    assert found["p_S2"] == [0.1, 0.7] * 2
    assert found["in_domain"] == [False, False, None, None]
    assert np.isnan(found["e_xx"][0])
    assert found["e_xx"][1] == 0.01
    assert table.schema.field("sigma_pm").metadata == {b"about": b"standard deviation of x or y, pm"}


def test_structures_are_read_back_by_ase(tmp_path):
    odd = Columns([[1, 2], [3, 0.5], [5, 5]], [0, 1, 2], ("Mo", "S2", "Mo vacancy"), probabilities=[0.9, 0.75, 0.6])
    write_structures([frame(columns=odd, maps=None)], tmp_path)
    sheet = read(tmp_path / "atoms.extxyz")
    assert sheet.get_chemical_symbols() == ["Mo", "S", "X"]
    assert list(sheet.arrays["class"]) == ["Mo", "S2", "Mo_vacancy"]
    np.testing.assert_allclose(sheet.arrays["probability"], [0.9, 0.75, 0.6])
    np.testing.assert_allclose(sheet.positions, [[1, 2, 0], [3, 0.5, 0], [5, 5, 0]])
    np.testing.assert_allclose(sheet.cell.lengths()[:2], [12.5, 10.0])
    again = read(tmp_path / "atoms.cif", store_tags=True)
    np.testing.assert_allclose(again.positions, sheet.positions, atol=1e-3)
    assert again.info["_hrtem_class"] == ["Mo", "S2", "Mo_vacancy"]
    assert [element(name) for name in ("C", "Se2", "column", "Au", "SrTiO", "Q")] == ["C", "Se", "X", "Au", "X", "X"]


def test_pictures_show_neither_numbers_of_atoms_nor_offsets():
    maps = np.full((6, 20, 25), 0.9, np.float32)  # a disc, three numbers of atoms, two offsets
    maps[0] = 0.1
    shown = frame(columns=Columns([], [], ("Au",)), maps=maps, shown=1).class_maps()
    np.testing.assert_array_equal(shown, maps[:1])


@pytest.mark.parametrize("number", [1, 3])
def test_maps_are_read_back_with_their_axes(tmp_path, number):
    write_maps([frame()] * number, tmp_path / "maps.hspy", "flake")
    (signal,) = hspy.file_reader(tmp_path / "maps.hspy")
    np.testing.assert_array_equal(signal["data"], frame().maps if number == 1 else np.stack([frame().maps] * 3))
    axes = signal["axes"]
    assert [axis["name"] for axis in axes] == ["frame", "channel", "y", "x"][-signal["data"].ndim :]
    assert (axes[-1]["scale"], axes[-1]["units"], axes[-1]["size"]) == (0.5, "Å", 25)
    assert [axis["navigate"] for axis in axes[-3:]] == [True, False, False]
    assert signal["metadata"]["General"]["title"] == "flake"


MARKS = [
    Mark("ring", np.array([[2.0, 4.0], [6.0, 4.0], [6.0, 8.0], [2.0, 8.0]]), "a ring of 4 & more", "#00ff00"),
    Mark("vacancy", np.array([[9.0, 3.0]]), "nothing", "#0000ff"),
    Mark("bond", np.array([[8.0, 9.0], [12.0, 9.0]]), "long", "#ff00ff"),
]


def test_marks_are_on_the_overlay(tmp_path):
    flat = np.tile(np.linspace(0.0, 1.0, 50), (40, 1))
    nothing = Columns([], [], ("C",))
    picture = imread(report.overlay(flat, nothing, 0.25, tmp_path / "o.png", MARKS))[..., :3].astype(int)
    scale = picture.shape[0] // 40
    at = lambda x, y: picture[round((y / 0.25 + 0.5) * scale), round((x / 0.25 + 0.5) * scale)]  # noqa: E731
    assert at(4.0, 6.0)[1] > at(4.0, 6.0)[0] + 60  # green within the polygon
    assert np.ptp(at(1.0, 6.0)) == 0  # grey outside
    assert np.ptp(at(9.0, 3.0)) == 0  # a point is ringed, not filled
    assert at(9.6, 3.0)[2] > at(9.6, 3.0)[0] + 60
    assert at(10.0, 9.0)[1] < at(10.0, 9.0)[0] - 40


def test_a_large_overlay_has_the_pixels_of_the_image(tmp_path):
    """Drawn in strips, with no seam: a ring across a seam is whole."""
    image = np.random.default_rng(0).normal(size=(560, 2100)).astype(np.float32)
    one = Columns([[51.2, 51.2]], [0], ("C",))
    picture = imread(report.overlay(image, one, 0.1, tmp_path / "o.png"))[..., :3].astype(int)
    assert picture.shape == (560, 2100, 3)
    coloured = np.argwhere(np.ptp(picture, axis=2) > 60)
    assert np.ptp(coloured, axis=0).tolist() == pytest.approx([7, 7], abs=1)
    np.testing.assert_allclose(coloured.mean(axis=0), [512, 512], atol=0.5)


def test_the_svg_has_the_image_and_a_circle_a_column(tmp_path):
    path = report.overlay_svg(frame().image, columns(), 0.25, tmp_path / "overlay.svg", MARKS)
    root = ElementTree.parse(path).getroot()
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.get("viewBox") == "-0.5 -0.5 50 40"
    circles = {group.get("id"): group.findall("s:circle", space) for group in root.findall("s:g", space)}
    assert [(float(c.get("cx")), float(c.get("cy"))) for c in circles["Mo"]] == [(4.0, 8.0)]
    assert [(float(c.get("cx")), float(c.get("cy"))) for c in circles["S2"]] == [(12.0, 2.0)]
    assert root.find("s:g/s:polygon/s:title", space).text == "a ring of 4 & more"
    address = root.find("s:image", space).get("href")
    pixels = imread(io.BytesIO(base64.b64decode(address.partition(",")[2])), extension=".png")
    assert pixels.shape == (40, 50)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_reliability(tmp_path):
    metric = Reliability(0.45, groups=2)
    metric.update([columns()], [columns()], 4.0, 4.0, [1])
    diagrams = dict(zip(("all", "1000", "3000"), metric.diagrams(), strict=True))
    save_reliability(diagrams, tmp_path)
    saved = json.loads((tmp_path / "reliability.json").read_text())
    assert saved["1000"]["candidates"] == 0
    assert saved["3000"]["number"] == [1]
    assert saved["3000"]["brier"] == pytest.approx(0.01)
    assert (tmp_path / "reliability.png").stat().st_size > 5_000


def test_rings_lie_around_the_columns(tmp_path):
    """A ring of 0.35 Å radius is drawn around (x, y), x to the right and y down."""
    image = np.random.default_rng(0).normal(size=(60, 80))
    one = Columns([[5.0, 3.0]], [0], ("C",))
    picture = imread(report.overlay(image, one, 0.1, tmp_path / "overlay.png"))[..., :3].astype(float)
    coloured = np.argwhere(np.ptp(picture, axis=2) > 60)
    scale = picture.shape[1] / 80
    assert picture.shape[0] / scale == 60
    centre = (coloured.min(axis=0) + coloured.max(axis=0)) / 2 / scale - 0.5
    np.testing.assert_allclose(centre, [30.0, 50.0], atol=0.5)
    assert abs(np.ptp(coloured[:, 0]) / scale - 7.0) < 0.5


def scores():
    score = Score(0.9, 0.8, 0.847, 12.0, 100, 110)
    return {1e3: {"all": score, "Mo": score, "S2": score}}


def test_scores_are_printed_and_saved(tmp_path, capsys):
    print_scores(scores())
    printed = capsys.readouterr().out
    for word in ("1,000", "all", "Mo", "S2", "0.900", "0.800", "0.847", "12.0"):
        assert word in printed
    save_scores(scores(), tmp_path / "metrics.json")
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["1000"]["S2"]["f1"] == 0.847


NAMES = ("α-Fe", '=HYPERLINK("http://a")', "@x", "-", "+b", "'=x", "'x", "<b> #1", "tab\there")


def test_any_class_name_is_read_back_from_every_file(tmp_path):
    found = Columns(np.arange(18.0).reshape(9, 2) / 2, np.arange(9), NAMES, probabilities=np.full(9, 0.5))
    maps = np.zeros((9, 20, 25), np.float32)
    report.write_files([frame(columns=found, maps=maps)], tmp_path, "odd")
    raw = [row[6] for row in rows_of(tmp_path / "atoms.csv")[1:]]
    assert not any(text.startswith(("=", "+", "-", "@")) for text in raw)
    assert [row["class"] for row in csv_files.read_rows(tmp_path / "atoms.csv")] == list(NAMES)
    assert parquet.read_table(tmp_path / "atoms.parquet")["class"].to_pylist() == list(NAMES)
    spaced = [name.replace(" ", "_") for name in NAMES]
    for classes in (
        read(tmp_path / "atoms.extxyz").arrays["class"],
        read(tmp_path / "atoms.cif", store_tags=True).info["_hrtem_class"],
    ):
        assert [unquote(name) for name in classes] == spaced
    assert ElementTree.parse(tmp_path / "overlay.svg")


def test_frames_keep_their_numbers_where_others_are_left_out(tmp_path):
    report.write_files([frame(maps=None, number=0), frame(maps=None, number=2)], tmp_path, "movie")
    assert [row[0] for row in rows_of(tmp_path / "atoms.csv")[1:]] == ["0", "0", "2", "2"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"overlay-0000.png", "overlay-0002.png"}
    assert [one.info["frame"] for one in read(tmp_path / "atoms.extxyz", index=":")] == [0, 2]
    assert "data_image2" in (tmp_path / "atoms.cif").read_text()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_columns_and_none_in_every_file(tmp_path, number):
    """Also beside an image with columns, as the frames of a movie are."""
    few = Columns(np.full((number, 2), 5.0) * np.arange(1, number + 1)[:, None], [0] * number, ("C",))
    image = np.random.default_rng(0).normal(size=(60, 80))
    empty = report.Frame(image, few, 0.2, maps=np.zeros((1, 60, 80), np.float32), map_sampling=0.2)
    (tmp_path / "alone").mkdir()
    structure = analyse(few, (15.8, 11.8))
    empty = replace(empty, extras=structure.fields, marks=structure.marks)
    report.write_files([empty], tmp_path / "alone", "alone")
    structure_figure(image, few, structure, 0.2, tmp_path / "alone" / "structure.png")
    assert (tmp_path / "alone" / "atoms.csv").read_text().count("\n") == 1 + number
    assert "data_image0" in (tmp_path / "alone" / "atoms.cif").read_text()
    full = report.Frame(image, Columns([[3.0, 3.0]], [0], ("C",)), 0.2)
    (tmp_path / "movie").mkdir()
    report.write_files([empty, full], tmp_path / "movie", "movie")
    text = (tmp_path / "movie" / "atoms.cif").read_text()
    assert text.count("data_image") == 2
    second = tmp_path / "second.cif"
    second.write_text(text[text.index("data_image1") :])
    assert len(read(second)) == 1
    assert len(read(tmp_path / "movie" / "atoms.extxyz", index=0)) == number
