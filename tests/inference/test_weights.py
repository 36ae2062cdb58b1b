"""Models as folders: nothing changes, nothing is unpickled, nothing foreign is made."""

from __future__ import annotations

import json
import os

import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate
from safetensors import SafetensorError

from hrtem.errors import InputError
from hrtem.inference import trust, weights
from hrtem.inference.network import ColumnNetwork


@pytest.fixture
def task(configuration):
    torch.manual_seed(0)
    return instantiate(configuration(*TINY).task).eval()


@pytest.fixture
def folder(task, tmp_path):
    return weights.write(tmp_path / "tiny", dict(task.settings), task.state_dict(), "# tiny\n")


def test_a_task_comes_back_bit_for_bit(task, folder):
    again = ColumnNetwork.load(folder)
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again(images), task(images))
    for name, value in task.state_dict().items():
        theirs = again.state_dict()[name]
        assert theirs.dtype == value.dtype
        torch.testing.assert_close(theirs, value, rtol=0, atol=0, equal_nan=True)
    assert dict(again.settings) == dict(task.settings)
    assert not again.training


def test_a_model_from_before_uncertainties_loads(task, tmp_path):
    lacking = ("position_variance", "uncertainty")
    old = {name: value for name, value in task.state_dict().items() if name not in lacking}
    folder = weights.write(tmp_path / "old", dict(task.settings), old, "")
    again = ColumnNetwork.load(folder)
    assert torch.equal(again.position_variance, task.position_variance)
    assert again.uncertainty.isnan().all()


def test_some_values_are_changed_and_no_others(task, folder):
    before, card, checksum = weights.read(folder), (folder / "card.md").read_text(), weights.checksum(folder)
    mode = (folder / "model.safetensors").stat().st_mode
    values = {"presence": task.presence + 1.0, "new": torch.arange(3.0)}
    weights.change(folder, values)
    settings, state = weights.read(folder)
    assert settings == before[0]
    assert (folder / "card.md").read_text() == card
    assert weights.checksum(folder) != checksum
    assert (folder / "model.safetensors").stat().st_mode == mode
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    for name, value in {**before[1], **values}.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0, equal_nan=True)
    assert len(state) == len(before[1]) + 1


def test_a_model_that_cannot_be_changed_stays(folder, monkeypatch):
    before = weights.checksum(folder)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(weights.safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        weights.change(folder, {"presence": torch.zeros(6)})
    assert weights.checksum(folder) == before
    weights.read(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_kill_while_values_change_leaves_a_model(folder, monkeypatch, step):
    """After the checksums of old and new, after the weights, and after the last checksums."""
    done = []
    replace = weights.os.replace

    class Killed(BaseException):
        pass

    def killed(*paths):
        replace(*paths)
        done.append(paths)
        if len(done) == step:
            raise Killed

    monkeypatch.setattr(weights.os, "replace", killed)
    with pytest.raises(Killed):
        weights.change(folder, {"presence": torch.ones(6, dtype=torch.float64)})
    monkeypatch.undo()
    changed = bool((weights.read(folder)[1]["presence"] == 1.0).all())
    assert changed is (step > 1)
    weights.change(folder, {"presence": torch.ones(6, dtype=torch.float64)})
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 2


def test_the_folder_holds_what_it_says(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "card.md",
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    # As open to other users as the process makes its files.
    plain = folder.parent / "plain"
    plain.write_text("")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {plain.stat().st_mode & 0o777}
    assert folder.stat().st_mode & 0o044


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_model_is_refused(folder, name, harm):
    path = folder / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if harm == "flip" else content[:-7])
    with pytest.raises(InputError, match=name):
        weights.read(folder)


def test_the_card_may_be_edited_and_decides_no_checksum(folder):
    before = weights.checksum(folder)
    (folder / "card.md").write_text("# better\n")
    weights.read(folder)
    assert weights.checksum(folder) == before


def test_a_checksum_changes_with_the_settings(task, folder, tmp_path):
    other = dict(task.settings) | {"monitor": "val/recall"}
    second = weights.write(tmp_path / "other", other, task.state_dict(), "")
    assert weights.checksum(second) != weights.checksum(folder)


@pytest.mark.parametrize(
    ("stage", "target"),
    [
        ("model", "os.system"),
        ("model", "subprocess.Popen"),
        ("model", "hrtem.runs.subprocess.Popen"),
        ("model", "hrtem.optics.Optics"),
        ("model", "torch.hub.load"),
        ("model", "hrtem.nets.torch.hub.load"),
        ("model", "hrtem.nets.unet.torch"),
        ("peaks", "hrtem.peaks.mass.torch.load"),
        ("noise", "builtins.eval"),
        ("loss", "torch.load"),
        ("loss", "torch.nn.functional.relu"),
        ("optics", None),
        ("optics", ["os.system"]),
    ],
)
def test_a_strangers_settings_make_nothing_foreign(folder, stage, target):
    """With right checksums, which a stranger can compute too; at any depth."""
    for nested in (False, True):
        said = json.loads((folder / "config.json").read_text())
        if nested:
            said["task"][stage]["inner"] = [{"_target_": target}]
        else:
            said["task"][stage]["_target_"] = target
        resealed(folder, json.dumps(said))
        with pytest.raises(InputError, match=rf"{stage}\.(inner\.)?_target_"):
            ColumnNetwork.load(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1, "task": []}', "settings"),
        ('{"format": 2, "task": {}}', "format 2"),
        ('{"format": 1, "task": {}}', "do not fit"),
        ('{"format": 1, "task": {"net": {"_target_": "os.system"}}}', "no class"),
        ('{"format": 1, "task": {"optics": {"dose": "${oc.env:HOME}"}}}', "plain value"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_broken_settings_are_told_in_one_sentence(folder, text, told):
    resealed(folder, text)
    with pytest.raises(InputError, match=told) as caught:
        ColumnNetwork.load(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(task, folder):
    said = json.loads((folder / "config.json").read_text())
    said["task"]["model"]["network"]["init_filters"] = 8
    resealed(folder, json.dumps(said))
    with pytest.raises(InputError, match="do not fit"):
        ColumnNetwork.load(folder)


def resealed(folder, settings):
    """Other settings with the checksums they need."""
    (folder / "config.json").write_text(settings)
    (folder / "SHA256SUMS").write_text(
        "".join(f"{weights._sha256(folder / name)}  {name}\n" for name in ("model.safetensors", "config.json"))
    )


def test_every_recipe_can_be_exported(configuration):
    """What the recipes name, the stages allow."""
    for words in (
        ["sample=gold", "focal=3", "target=count_ordinal"], ["sample=mos2", "focal=3", "noise=madsen2018"],
        ["target=offsets"], ["model=monai_segresnet"], ["model=dihedral_unet"],
        ["target=gaussian", "loss=focal", "noise=none"], ["experiment=madsen2018_graphene"],
    ):  # fmt: skip
        task = instantiate(configuration(*TINY, *words).task)
        trust.admit(task.settings, "any")


def test_a_folder_that_appears_during_an_export_is_kept(task, tmp_path, monkeypatch):
    def written(*_):
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "of another process").touch()

    monkeypatch.setattr(weights, "_write_sums", written)
    with pytest.raises(InputError, match="two exists"):
        weights.write(tmp_path / "two", dict(task.settings), task.state_dict(), "")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_a_full_disk_leaves_no_model_and_keeps_a_checkpoint(task, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}}, path)
    before = path.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match=r"can be written, and .*two cannot: .*No space left"):
        weights.write(tmp_path / "two", dict(task.settings), task.state_dict(), "")
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"a"))
    with pytest.raises(InputError, match=r"cannot be replaced: .*No space left"):
        weights.change_checkpoint(path, {"presence": torch.zeros(1)})
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_folder_is_never_overwritten(task, folder):
    with pytest.raises(InputError, match="exists"):
        weights.write(folder, dict(task.settings), task.state_dict(), "")
    with pytest.raises(InputError, match="cannot"):
        weights.write(folder / "card.md" / "inner", dict(task.settings), task.state_dict(), "")
