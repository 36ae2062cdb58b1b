"""The gate for settings from files: what a stranger's file names is not called, in any way in."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from conftest import ROOT, TINY
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hrtem import models, recipes
from hrtem.errors import InputError
from hrtem.inference import Predictor, trust, weights
from hrtem.inference.network import ColumnNetwork
from hrtem.training import recalibration, resume

STAGES = ("sample", "optics", "noise", "normalisation", "target", "model", "loss", "peaks", "optimizer", "scheduler")
#: Functions and classes that execute code, read, write or fetch; and classes of ours in a wrong place or by other ways.
NAMES = """
sympy.sympify os.system os.popen os.makedirs os.remove os.rename os.execv os.kill os._exit subprocess.Popen
subprocess.run subprocess.check_output shutil.copy shutil.rmtree shutil.move builtins.eval builtins.exec builtins.open
builtins.print builtins.getattr builtins.__import__ builtins.dict builtins.object numpy.savetxt numpy.load numpy.save
numpy.fromfile numpy.memmap numpy.lib.npyio.NpzFile torch.load torch.save torch.hub.load
torch.hub.load_state_dict_from_url torch.hub.download_url_to_file torch.jit.load torch.package.PackageImporter
torch.ops.load_library torch.classes.load_library torch.utils.cpp_extension.load torch.nn.Module torch.nn.Sequential
torch.nn.ModuleList torch.nn.functional.relu torch.nn.NLLLoss torch.optim.lr_scheduler.LambdaLR torch.optim.Optimizer
torch.optim.swa_utils.AveragedModel torch.utils.data.DataLoader torch.multiprocessing.spawn pickle.load pickle.loads
pickle.Unpickler importlib.import_module importlib.reload runpy.run_path runpy.run_module code.interact
urllib.request.urlopen urllib.request.urlretrieve http.client.HTTPConnection socket.socket socket.create_connection
ctypes.CDLL ctypes.cdll.LoadLibrary pathlib.Path pathlib.Path.write_text tempfile.mkdtemp zipfile.ZipFile
tarfile.open webbrowser.open logging.FileHandler logging.config.listen asyncio.run threading.Thread timeit.timeit
functools.partial operator.attrgetter yaml.load yaml.unsafe_load pandas.read_pickle pandas.eval joblib.load
monai.bundle.load monai.apps.download_url monai.networks.nets.FlexibleUNet monai.networks.nets.TorchVisionFCModel
monai.networks.nets.ViTAutoEnc monai.networks.nets.resnet50 monai.networks.nets.SegResNetDS
monai.networks.nets.segresnet.SegResNet monai.config.ConfigParser hydra.utils.instantiate hydra.utils.call
hydra.utils.get_method hydra._internal.utils._locate omegaconf.OmegaConf.load omegaconf.OmegaConf.save
pytorch_lightning.Trainer ase.io.read ase.io.write hrtem.load hrtem.models.export hrtem.inference.weights.write
hrtem.provenance.sha256 hrtem.nets.fuse hrtem.nets.build hrtem.nets.torch.hub.load hrtem.nets.unet.UNet
hrtem.training.task.Task hrtem.inference.network.ColumnNetwork hrtem.waves.Multislice hrtem.waves.cache.WaveCache
hrtem.optics.filter_image hrtem.samples.base.np.save hrtem.losses.os.system hrtem.schedule.math.exp hrtem UNet ..x
"""
TARGETS = NAMES.split()


@pytest.fixture(scope="module")
def settings():
    task = OmegaConf.to_container(recipes.compose(*TINY).task, resolve=True)
    return {key: value for key, value in task.items() if not key.startswith("_")}


def checkpoint(path, settings):
    torch.save({"hyper_parameters": settings, "state_dict": {"net.weight": torch.zeros(3)}}, path)
    return path


def ways_in(path, configuration):
    """All functions that build something from a file."""
    config = configuration(*TINY, f"resume={path}")
    yield "checkpoint", lambda: ColumnNetwork.load(path)
    yield "ensemble", lambda: Predictor.load([path, path])
    yield "name", lambda: models.load(path)
    yield "export", lambda: models.export(path, str(path.parent / "out" / "a"))
    yield "start", lambda: resume.start_from(torch.nn.Module(), path)
    yield "resume", lambda: resume.checkpoint_to_resume(config, path.parent)
    yield "calibrate", lambda: recalibration.measure_calibration(path, 1, 0)


def test_a_hundred_targets_are_refused_in_every_way_in(settings, configuration, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr("hydra._internal.instantiate._instantiate2._call_target", lambda *a, **k: called.append(a))
    assert len(set(TARGETS)) > 100
    path = tmp_path / "stranger.ckpt"
    ways = list(ways_in(path, configuration))
    for number, target in enumerate(TARGETS):
        stage = STAGES[number % len(STAGES)]
        said = copy.deepcopy(settings)
        part = {"_target_": target, "a": "print(1)"}
        said[stage] = [part, {**said[stage], "inner": part}, {**said[stage], "inner": [[{"x": part}]]}][number % 3]
        checkpoint(path, said)
        for way, load in [ways[number % len(ways)], ways[0]]:
            with pytest.raises(InputError, match=r"_target_ of the checkpoint") as caught:
                load()
            assert f"got {target}" in str(caught.value), way
    assert not called
    assert [one.name for one in tmp_path.iterdir()] == ["stranger.ckpt"]


def test_each_target_is_refused_in_each_stage(settings):
    for target in [*TARGETS, None, 3, ["os.system"], {"_target_": "os.system"}, "hrtem.optics.Optics "]:
        for stage in (*STAGES, "sampling", "other"):
            with pytest.raises(InputError, match="_target_"):
                trust.admit({**settings, stage: {"_target_": target}}, "the checkpoint a")


@pytest.mark.parametrize("key", ["_args_", "_call_", "_recursive_", "_convert_", "_mode_", "_partial_", "__class__"])
def test_special_keys_are_for_recipes_only(settings, key):
    for stage in ("optics", "model"):
        said = copy.deepcopy(settings)
        said[stage][key] = ["os.system"]
        with pytest.raises(InputError, match=f"{stage}.{key}"):
            trust.admit(said, "the checkpoint a")


@pytest.mark.parametrize(
    "value",
    ["${oc.env:HOME}", "a ${optics.dose}", "\\${x}", torch.zeros(2), {1, 2}, b"x", 1j, object()],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_values_are_plain(settings, value):
    for said in (value, [[value]], {"a": [value]}):
        with pytest.raises(InputError, match="plain value"):
            trust.admit({**settings, "sample": said}, "the checkpoint a")


def test_settings_without_end_are_refused(settings):
    circle: list = []
    circle.append(circle)
    many = [0]
    for _ in range(60):
        many = [many, many]
    for value in (circle, many):
        with pytest.raises(InputError, match="settings of the checkpoint a"):
            trust.admit({**settings, "sample": value}, "the checkpoint a")


@pytest.mark.parametrize(
    ("network", "argument"),
    [("SegResNet", "pretrained_url"), ("AttentionUnet", "weights"), ("SwinUNETR", "pretrained"), ("SegResNet", "x")],
)
def test_networks_of_monai_take_numbers_alone(settings, network, argument):
    part = {"_target_": f"monai.networks.nets.{network}", argument: "file:///etc/passwd"}
    for model in (part, {**settings["model"], "network": part}):
        with pytest.raises(InputError, match=f"for monai.networks.nets.{network}, got {argument}"):
            trust.admit({**settings, "model": model}, "the model a")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sampling": 0}, "sampling"),
        ({"sampling": float("nan")}, "sampling"),
        ({"sampling": 1e-4}, "sampling"),
        ({"sampling": "wide"}, "sampling"),
        ({"model.network.init_filters": 4000}, "far larger|do not fit"),
        ({"model.network.blocks_down": [1, 2, 4000]}, "far larger|do not fit"),
        ({"model.network.init_filters": -4}, "init_filters"),
        ({"model.network.init_filters": float("nan")}, "init_filters"),
        ({"model.network.init_filters": 1e12}, "init_filters"),
        ({"model.fold": 0}, "fold"),
        ({"model.in_channels": 3}, "do not fit|cannot be used"),
        ({"sample.classes": ["C", "N"]}, "target.channels"),
        ({"sample.classes": 3}, "do not fit|classes"),
        ({"peaks.threshold": "x"}, "threshold"),
        ({"margin": None}, "margin"),
    ],
    ids=str,
)
def test_numbers_out_of_range_end_in_one_sentence(saved, tmp_path, changes, told):
    said, state = copy.deepcopy(saved)
    for name, value in changes.items():
        *parts, last = name.split(".")
        part = said
        for one in parts:
            part = part[one]
        part[last] = value
    torch.save({"hyper_parameters": said, "state_dict": state}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=told) as caught:
        ColumnNetwork.load(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value)


def test_a_pixel_size_in_words_is_a_number(saved, tmp_path):
    said, state = saved
    torch.save({"hyper_parameters": {**said, "sampling": "0.2"}, "state_dict": state}, tmp_path / "a.ckpt")
    assert ColumnNetwork.load(tmp_path / "a.ckpt").sampling == 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [("net.network.conv_final.2.conv.weight", torch.nan), ("presence", torch.nan), ("uncertainty", torch.inf)],
)
def test_weights_that_are_no_numbers_are_refused(saved, tmp_path, name, value):
    said, state = saved
    assert name in state
    broken = {**state, name: torch.full_like(state[name], value)}
    torch.save({"hyper_parameters": said, "state_dict": broken}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="no finite numbers"):
        ColumnNetwork.load(tmp_path / "a.ckpt")


@pytest.fixture(scope="module")
def saved(settings):
    torch.manual_seed(0)
    said = copy.deepcopy(settings)
    said["model"]["network"]["init_filters"] = 8
    task = instantiate({"_target_": "hrtem.training.task.Task", "_recursive_": False, "_convert_": "all", **said})
    return said, task.state_dict()


def test_own_classes_need_trust(settings, tmp_path, monkeypatch):
    (tmp_path / "mine5.py").write_text("import subprocess\nclass Film:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = {**settings, "noise": {"_target_": "mine5.Film"}}
    with pytest.raises(InputError, match="HRTEM_TRUST=mine5"):
        trust.admit(said, "the checkpoint a")
    monkeypatch.setenv("HRTEM_TRUST", "other, mine5")
    assert trust.admit(said, "the checkpoint a")["noise"] == said["noise"]
    with pytest.raises(InputError, match="_target_"):
        trust.admit({**settings, "noise": {"_target_": "mine5.subprocess.Popen"}}, "the checkpoint a")


def test_a_gate_changes_no_settings_of_the_shipped_models():
    """Apart from the names of classes that have moved."""
    for name in models.names():
        settings, _ = weights.read(models.find(name))
        assert trust.admit(settings, "x") == settings
        assert trust.rename_classes(settings) == settings


def test_every_recipe_names_allowed_classes():
    """What the recipes name, the stages allow."""
    for stage in ("sample", "optics", "noise", "target", "model", "loss", "peaks"):
        for path in (ROOT / "conf" / stage).glob("*.yaml"):
            for target in trust._targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False)):
                assert target in trust.allowed_classes(stage), path


def test_a_checkpoint_that_would_call_a_function_names_it(tmp_path):
    class Stranger:
        def __reduce__(self):
            return os.makedirs, (str(tmp_path / "made"),)

    torch.save({"hyper_parameters": {}, "state_dict": Stranger()}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a.ckpt is not: os.makedirs is not allowed\.$"):
        ColumnNetwork.load(tmp_path / "a.ckpt")
    assert not (tmp_path / "made").exists()
