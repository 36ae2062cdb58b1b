"""Structures from files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, mx2
from ase.cluster import Octahedron
from ase.formula import Formula
from ase.io import write
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from conftest import CRYSTAL, TINY
from hydra.utils import instantiate
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from hrtem.errors import InputError
from hrtem.inference.network import ColumnNetwork
from hrtem.samples import StructureFile
from hrtem.waves.cache import WaveCache
from hrtem.waves.multislice import Multislice

A = 3.905
Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a structure into a file and give its path."""

    def saved(atoms: Any, name: str = "structure.vasp") -> str:
        write(tmp_path / name, atoms)
        return str(tmp_path / name)

    return saved


def sample(
    structure: Any = CRYSTAL, classes: Any = ("column",), extent: float = 51.2, **settings: Any
) -> StructureFile:
    return StructureFile("file", classes, extent, {"default": 0.08}, str(structure), **settings)


def drawn(seed: int = 0, **settings: Any) -> tuple[Atoms, Any]:
    return sample(**settings)(np.random.default_rng(seed))


def quartz(spacegroup: int) -> Atoms:
    """Alpha-quartz: 152 is P3₁21, 154 its mirror image P3₂21."""
    z = {152: 1 / 3, 154: 2 / 3}[spacegroup]
    oxygen = {152: 0.2142, 154: 0.7858}[spacegroup]
    cell = [4.916, 4.916, 5.405, 90, 90, 120]
    return crystal(["Si", "O"], [(0.4697, 0, z), (0.4135, 0.2669, oxygen)], spacegroup=spacegroup, cellpar=cell)


def triclinic() -> Atoms:
    positions = [[0.1, 0.2, 0.3], [0.6, 0.55, 0.8], [0.3, 0.8, 0.55]]
    return Atoms("AuMoC", scaled_positions=positions, cell=[4.1, 5.2, 6.3, 75, 85, 100], pbc=True)


def known_names(**settings: Any) -> str:
    """What the error says that occurs."""
    with pytest.raises(InputError) as error:
        sample(classes=["?"], **settings)
    return str(error.value).partition("some of ")[2].partition("]")[0] + "]"


@pytest.mark.parametrize(
    ("axis", "names", "spacing"),
    [
        ([0, 0, 1], "[Sr, TiO, O]", A / 2),
        ([1, 1, 0], "[SrO, Ti, O2]", A / np.sqrt(8.0)),
        ([1, -1, 1], "[SrTi, O]", A / np.sqrt(6.0)),
    ],
)
def test_columns_of_a_perovskite(axis: list[int], names: str, spacing: float) -> None:
    assert known_names(zone_axes=[axis]) == names
    classes = names[1:-1].split(", ")
    atoms, columns = drawn(classes=classes, zone_axes=[axis])
    distance, _ = cKDTree(columns.positions).query(columns.positions, k=2)
    inner = columns.inside(51.2, 51.2, border=1.0)
    assert distance[inner, 1].min() == pytest.approx(spacing)
    # Every column holds what it is called after, exactly above each other.
    column = atoms.get_array("column")
    for number in range(len(columns)):
        name = columns.classes[columns.labels[number]]
        assert set(atoms[column == number].symbols) == set(Formula(name).count())
    assert np.abs(atoms.positions[:, :2] - columns.positions[column]).max() < 1e-6


def test_names_do_not_depend_on_the_cell(save: Save) -> None:
    perovskite = crystal(["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=A)
    assert known_names(structure=save(perovskite * (2, 2, 3))) == "[Sr, TiO, O]"
    # Another cell of the same lattice: its vectors are (1, 1, 0), (0, 1, 0) and (1, 0, 1).
    skew = make_supercell(perovskite, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert known_names(structure=save(skew), zone_axes=[[-1, 1, 1]]) == "[Sr, TiO, O]"
    assert known_names(structure=save(bulk("NaCl", "rocksalt", 5.64, cubic=True))) == "[NaCl]"


def test_classes_that_are_not_asked_for_are_background() -> None:
    every, some = (drawn(classes=classes) for classes in (["O", "TiO", "Sr"], ["TiO"]))
    np.testing.assert_array_equal(every[0].positions, some[0].positions)
    asked = every[1].labels == 1
    np.testing.assert_allclose(some[1].positions, every[1].positions[asked])
    np.testing.assert_array_equal(some[1].counts, every[1].counts[asked])
    np.testing.assert_array_equal(some[0].get_array("column") < 0, ~asked[every[0].get_array("column")])


@pytest.mark.parametrize("axis", [[0, 0, 1], [1, 1, 0], [1, -2, 3]])
@pytest.mark.parametrize("make", [triclinic, lambda: quartz(152)])
def test_the_field_is_full(save: Save, make: Callable[[], Atoms], axis: list[int]) -> None:
    """No point of the field is farther from an atom than in the endless crystal, and no atom is there twice."""
    crystalline = make()
    points = np.random.default_rng(0).random((3000, 3)) @ crystalline.cell.array
    widest = cKDTree((crystalline * (3, 3, 3)).positions).query(points + crystalline.cell.array.sum(axis=0))[0].max()
    source = sample(
        structure=save(crystalline),
        extent=25.6,
        zone_axes=[axis],
        tilt=4.0,
        thickness=[40.0, 60.0],
        strain=[-0.05, 0.05],
        merge=0.1,
    )
    for seed in range(6):
        atoms, columns = source(np.random.default_rng(seed))
        margin = widest + np.array([0.0, 0.0, 2.0])
        inner = np.random.default_rng(seed).uniform(margin, atoms.cell.lengths() - margin, size=(3000, 3))
        tree = cKDTree(atoms.positions)
        assert tree.query(inner)[0].max() < 1.07 * widest
        assert tree.query(atoms.positions, k=2)[0][:, 1].min() > 1.4
        assert len(columns) > 50


def test_thickness_is_measured_along_the_beam() -> None:
    for tilt in (0.0, 10.0):
        atoms, _ = drawn(thickness=40.0, tilt=tilt)
        # Planes are a/2 apart.
        assert 40.0 - A < np.ptp(atoms.positions[:, 2]) <= 40.0
        assert atoms.cell[2, 2] == pytest.approx(np.ptp(atoms.positions[:, 2]) + 4.0)


@pytest.mark.parametrize("axis", [[0, 0, 1], [0, 0, -1], [1, 0, 0], [2, -1, 1]])
def test_the_crystal_is_only_turned(save: Save, axis: list[int]) -> None:
    """[u v w] along +z, a (or b) along x, and no mirror: around an atom lies what lies there in the file."""
    right, left = quartz(152), quartz(154)
    atoms, _ = drawn(structure=save(right, "quartz.cif"), zone_axes=[axis], rotation=0.0, merge=0.1)
    centre = np.linalg.norm(atoms.positions - atoms.cell.lengths() / 2, axis=1)
    (silicon,) = [np.flatnonzero(atoms.numbers == 14)[centre[atoms.numbers == 14].argmin()]]
    around = atoms.positions - atoms.positions[silicon]
    distance = np.linalg.norm(around, axis=1)
    around = around[(distance > 0.1) & (distance < 5.0)]

    def misfit(reference: Atoms) -> float:
        """Distance to the environment of the best silicon atom of a crystal in the frame that is promised."""
        z = np.array(axis) @ reference.cell.array
        z /= np.linalg.norm(z)
        a, b, _ = reference.cell.array
        across = b if np.linalg.norm(np.cross(z, a)) < 1e-6 else a
        turn, _ = Rotation.align_vectors([[0, 0, 1], [1, 0, 0]], [z, across - (across @ z) * z])
        center, vector = neighbor_list("iD", reference, 5.0)
        environments = [turn.apply(vector[center == one]) for one in np.flatnonzero(reference.numbers == 14)]
        assert {len(environment) for environment in environments} == {len(around)}
        return min(cKDTree(environment).query(around)[0].max() for environment in environments)

    assert misfit(right) < 1e-4
    assert misfit(left) > 0.3


def heavy_light_and_lighter() -> Atoms:
    """Three atoms at the corners of a triangle without symmetry, 1 Å higher from one to the next."""
    return Atoms("AuMoC", positions=[[0, 0, 0], [5, 0, 1], [0, 3, 2]])


def signed_area(points: np.ndarray) -> float:
    """Positive where three points turn from x to y."""
    one, two = points[1] - points[0], points[2] - points[0]
    return float(one[0] * two[1] - one[1] * two[0])


@pytest.mark.parametrize(("axis", "area"), [([0, 0, 1], 15.0), ([0, 0, -1], -15.0)])
@pytest.mark.parametrize("repeat", [True, False])
def test_a_hand_stays_itself_and_has_two_sides(save: Save, axis: list[int], area: float, repeat: bool) -> None:
    model = heavy_light_and_lighter()
    if repeat:
        model.set_cell([20.0, 20.0, 10.0])
        model.set_pbc(True)
    path = save(model, "model.vasp" if repeat else "model.xyz")
    settings: dict[str, Any] = {"structure": path, "zone_axes": [axis], "repeat": repeat, "thickness": None}
    for seed in range(4):
        atoms, columns = drawn(seed, classes=["C", "Au", "Mo"], **settings)
        chosen = []
        for name in ("Au", "Mo", "C"):
            places = columns.positions[columns.labels == columns.classes.index(name)]
            nearest = np.linalg.norm(places - (chosen[0] if chosen else 25.6), axis=1).argmin()
            chosen.append(places[nearest])
        assert signed_area(np.array(chosen)) == pytest.approx(area, abs=1e-6)
        # The beam travels towards +z along [u v w]: it meets gold first, or carbon.
        depth = [atoms.positions[atoms.numbers == number, 2].mean() for number in (79, 42, 6)]
        assert list(np.argsort(depth)) == ([0, 1, 2] if axis[2] > 0 else [2, 1, 0])


def test_the_wave_shows_the_table(save: Save) -> None:
    path = save(heavy_light_and_lighter(), "model.xyz")
    atoms, columns = drawn(3, structure=path, repeat=False, extent=12.8, classes=["Au", "Mo", "C"], rotation=25.0)
    wave = Multislice(300e3, 0.2)(atoms)
    phase = np.angle(wave / np.median(wave))
    x, y = np.round(columns.positions[np.argsort(columns.labels)] / 0.2).astype(int).T
    here = phase[y, x]
    assert here[0] > here[1] > here[2] > 0.1
    assert np.all(phase[y, 63 - x] < 0.1)


def test_a_sheet_is_taken_as_it_is(save: Save) -> None:
    sheet = mx2("MoS2", vacuum=8.0)
    sheet.set_pbc(True)
    sheet.positions[:, 2] -= sheet.positions[0, 2]  # across the border of the cell
    sheet.wrap()
    atoms, columns = drawn(structure=save(sheet), thickness=None, classes=["Mo", "S2"])
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(3.19)
    assert set(columns.counts[columns.labels == 0]) == {1}
    assert set(columns.counts[columns.labels == 1]) == {2}
    heights = np.unique(atoms.positions[:, 2].round(6))
    assert list(atoms.numbers[np.isclose(atoms.positions[:, 2], heights[1])]) == [42] * (columns.counts == 1).sum()


def test_atoms_that_no_image_can_tell_apart_share_a_column(save: Save) -> None:
    nitride = bulk("GaN", "wurtzite", a=3.19, c=5.19)
    assert known_names(structure=save(nitride), zone_axes=[[1, 1, 0]]) == "[Ga, N]"
    assert known_names(structure=save(nitride), zone_axes=[[1, 1, 0]], merge=1.2) == "[GaN]"
    # The two halves of silicon's dumbbells.
    _, columns = drawn(structure=save(bulk("Si", cubic=True)), zone_axes=[[1, 1, 0]], merge=1.5, rotation=0.0)
    whole = columns[columns.inside(51.2, 51.2, border=2.0)]
    distance, _ = cKDTree(whole.positions).query(whole.positions, k=2)
    np.testing.assert_allclose(distance[:, 1], 5.43 / 2 * np.sqrt(1.5), rtol=1e-6)
    with pytest.raises(
        InputError, match=r"zone_axes holds \[-3, 1, 7\], .* sample\.merge = 0\.8 Å in rows without end"
    ):
        sample(zone_axes=[[-3, 1, 7]])


def test_a_film_may_be_so_thin_that_it_is_empty(save: Save) -> None:
    source = sample(structure=save(mx2("MoS2", vacuum=8.0)), thickness=1.0)
    sizes = [(len(atoms), len(columns)) for atoms, columns in map(source, map(np.random.default_rng, range(30)))]
    assert (0, 0) in sizes
    assert max(sizes) > (200, 200)


def test_tilt_leans_columns_and_keeps_them(save: Save) -> None:
    upright, tilted = (drawn(tilt=tilt, thickness=40.0, rotation=0.0) for tilt in (0.0, 2.0))
    inner = tilted[1].inside(51.2, 51.2, border=3.0)
    away, _ = cKDTree(upright[1].positions).query(tilted[1].positions[inner])
    assert 0.005 < away.max() < 0.15
    column = tilted[0].get_array("column")
    lean = np.linalg.norm(tilted[0].positions[:, :2] - tilted[1].positions[column], axis=1)
    assert lean[inner[column]].max() == pytest.approx(20.0 * np.sin(np.radians(2.0)), rel=0.1)


def test_rotation_turns_from_x_to_y() -> None:
    for angle in (0.0, 30.0):
        _, columns = drawn(classes=["Sr"], rotation=angle)
        middle = columns.positions[np.linalg.norm(columns.positions - 25.6, axis=1).argmin()]
        step = A * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        assert cKDTree(columns.positions).query(middle + step)[0] < 1e-6


def test_defects_have_their_size() -> None:
    whole, lacking = (drawn(vacancy=vacancy)[0] for vacancy in (0.0, 0.1))
    assert len(lacking) / len(whole) == pytest.approx(0.9, abs=0.02)
    still, moved = (drawn(rattle=rattle, thickness=None)[0].positions[:, :2] for rattle in (0.0, 0.1))
    shift = cKDTree(still).query(moved)[0]
    assert np.sqrt(np.mean(shift**2) / 2) == pytest.approx(0.1, rel=0.05)
    full, ended = (drawn(edge=edge)[1] for edge in (0.0, 1.0))
    assert 0.05 * len(full) < len(ended) < 0.97 * len(full)


def test_a_model_stays_whole(save: Save) -> None:
    particle = Octahedron("Au", 7, 2)
    for cell in (None, [40.0, 40.0, 40.0]):
        particle.set_cell(cell)
        particle.set_pbc(cell is not None)
        path = save(particle, "particle.xyz")
        for axis, columns_seen in (([0, 0, 1], 69), ([1, 1, 0], 43)):
            atoms, columns = drawn(structure=path, repeat=False, zone_axes=[axis], tilt=3.0, classes=["Au"])
            np.testing.assert_allclose(np.sort(pdist(atoms.positions)), np.sort(pdist(particle.positions)), atol=1e-6)
            assert len(columns) == columns_seen
            assert columns.counts.sum() == len(particle)
            np.testing.assert_allclose(atoms.positions[:, :2].mean(axis=0), 25.6, atol=0.5)


def test_several_structures_are_a_family(save: Save) -> None:
    path = save([Octahedron("Au", 5, 1), Octahedron("Pt", 7, 2)], "family.xyz")
    source = sample(structure=path, repeat=False, classes=["Pt", "Au"])
    assert {str(source(np.random.default_rng(seed))[0].symbols[0]) for seed in range(10)} == {"Au", "Pt"}
    assert set(source.rms_displacement) == {"Au", "C", "Pt"}  # carbon may soil any


def test_displacements_have_a_default() -> None:
    source = StructureFile("file", ["column"], 51.2, {"default": 0.1, "O": 0.07, "Au": 0.2}, str(CRYSTAL))
    assert [source.rms_displacement[symbol] for symbol in ("Sr", "Ti", "O")] == [0.1, 0.1, 0.07]


def test_what_the_file_holds_decides_the_key(tmp_path: Path, save: Save) -> None:
    def key(structure: str) -> str:
        source = sample(structure=structure)
        return WaveCache(tmp_path, source, Multislice(300e3, 0.2), {"sample": {"structure": structure}}, seed=0).key

    path = save(bulk("Si", cubic=True))
    silicon = key(path)
    assert key(path) == silicon
    save(bulk("Ge", cubic=True))
    assert key(path) != silicon


def test_a_model_predicts_without_the_file(configuration: Any, tmp_path: Path) -> None:
    import pytorch_lightning as lightning

    path = shutil.copy(CRYSTAL, tmp_path / "gone.cif")
    config = configuration(*TINY, "sample=file", f"sample.structure={path}", "sample.classes=[Sr,TiO]")
    trainer = lightning.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.strategy.connect(instantiate(config.task))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    Path(path).unlink()
    assert ColumnNetwork.load(tmp_path / "model.ckpt").classes == ("Sr", "TiO")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"structure": ["a.cif", "b.cif"]},
            r"sample\.structure must be a file, and \['a\.cif', 'b\.cif'\] does not exist",
        ),
        ({"structure": "none.cif"}, r"sample\.structure must be a file, and none\.cif does not exist"),
        ({"classes": ["Sr", "Ti"]}, r"must be \[column\] or some of \[Sr, TiO, O\], .* got \['Sr', 'Ti'\]"),
        ({"classes": ["Sr", "Sr"]}, r"sample\.classes .* got \['Sr', 'Sr'\]"),
        ({"classes": []}, r"sample\.classes .* got \[\]"),
        ({"repeat": "no"}, r"sample\.repeat must be true or false, got 'no'"),
        ({"thickness": 0.0}, r"sample\.thickness must be between 1 and 1000 Å, got 0"),
        ({"thickness": [-20.0, 40.0]}, r"sample\.thickness must be between 1 and 1000 Å"),
        ({"merge": 0.0}, r"sample\.merge must be between 0\.1 and 2 Å"),
        ({"tilt": 30.0}, r"sample\.tilt must be between 0 and 10 degrees"),
        ({"rotation": [0.0, 720.0]}, r"sample\.rotation must be between -360 and 360 degrees"),
        ({"vacancy": 1.0}, r"sample\.vacancy must be between 0 and 0\.9"),
        ({"rattle": -0.1}, r"sample\.rattle must be between 0 and 1 Å"),
        *(
            ({"zone_axes": axes}, r"sample\.zone_axes must be a list of directions of three integers")
            for axes in ([], [0, 0, 1], [[0, 0, 0]], [[1, 1]], [[1, 1, -2, 0]], [[0.5, 0, 1]], [["u", "v", "w"]], "001")
        ),
    ],
)
def test_file_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample(**settings)


def test_displacements_name_elements() -> None:
    with pytest.raises(InputError, match=r"sample\.rms_displacement must name elements or default, got 'Tu'"):
        StructureFile("file", ["column"], 51.2, {"Tu": 0.1}, str(CRYSTAL))
    with pytest.raises(InputError, match=r"sample\.rms_displacement\.default must be between 0 and 1 Å"):
        StructureFile("file", ["column"], 51.2, {"default": -0.1}, str(CRYSTAL))


@pytest.mark.parametrize(
    ("name", "text", "repeat", "message"),
    [
        ("text.cif", "This is no structure.\n", True, r"must be a file that ASE reads, and .*text\.cif is not"),
        ("empty.cif", "", True, r"must be a file that ASE reads, and .*empty\.cif is not .*Empty file"),
        ("cell.cif", "data_x\n_cell_length_a 3\n", True, r"must hold atoms, and .*cell\.cif holds none"),
        ("none.xyz", "0\n\n", False, r"must hold atoms at finite positions"),
        ("nan.xyz", "2\n\nC nan 0 0\nC 2 0 0\n", False, r"must hold atoms at finite positions"),
        ("dummy.xyz", "2\n\nX 0 0 0\nC 2 0 0\n", False, r"must hold the elements H to Lr, and .* holds X\."),
        ("wrong.xyz", "1\n\nQq 0 0 0\n", False, r"must be a file that ASE reads"),
        ("molecule.xyz", "2\n\nC 0 0 0\nO 1.1 0 0\n", True, r"must have a periodic cell.*sample\.repeat=false"),
        ("flat.xyz", '1\nLattice="3 0 0 0 3 0 3 3 0"\nC 0 0 0\n', True, r"must have a periodic cell.* has no volume"),
        ("close.xyz", "2\n\nC 0 0 0\nC 0.1 0 0\n", False, r"at least 0\.5 Å apart, and two in .* are 0\.10 Å apart"),
        ("wide.xyz", "2\n\nC 0 0 0\nC 60 0 0\n", False, r"sample\.extent must hold the whole model .* 60\.0 Å wide"),
    ],
)
def test_file_refuses_files(tmp_path: Path, name: str, text: str, repeat: bool, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        sample(structure=tmp_path / name, repeat=repeat)


def test_contamination_lies_on_both_surfaces_and_belongs_to_no_column() -> None:
    film = {"probability": 1.0, "share": 1.0, "both_sides": 1.0, "thickness": 4.0}
    atoms, columns = drawn(thickness=20.0, contamination=film)
    carbon, z = atoms.symbols == "C", atoms.positions[:, 2]
    assert set(atoms.get_array("column")[carbon]) == {-1}
    upper, lower = z[carbon & (z > z[~carbon].max())], z[carbon & (z < z[~carbon].min())]
    assert len(upper) + len(lower) == carbon.sum()
    assert min(len(upper), len(lower)) > 100
    assert upper.min() - z[~carbon].max() == pytest.approx(3.0, abs=0.3)
    assert z[~carbon].min() - lower.max() == pytest.approx(3.0, abs=0.3)
    assert columns.counts.sum() == np.sum(~carbon)
