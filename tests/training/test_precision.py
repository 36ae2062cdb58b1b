"""The precision of a training follows the processor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from hrtem.errors import InputError
from hrtem.inference import precision as choice
from hrtem.training import precision


@pytest.mark.parametrize(("tiles", "word"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_processor_is_asked_for_tiles(monkeypatch, tiles, word):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": tiles})
    assert choice.choose_precision("cpu") == word
    trainer = precision.trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer.precision == word


@pytest.mark.parametrize(("gain", "word"), [(1.8, "bf16-mixed"), (0.7, "32-true")])
def test_a_processor_with_the_instructions_alone_is_tried(monkeypatch, gain, word):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False, "avx512_bf16": True})
    monkeypatch.setattr(choice, "measure_bfloat16_gain", lambda: gain)
    assert choice.choose_precision("cpu") == word


def test_the_trial_gives_a_ratio_and_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    choice.measure_bfloat16_gain.cache_clear()
    assert 0.02 < choice.measure_bfloat16_gain() < 50.0
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize(("bfloat16", "word"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_is_asked_for_bfloat16(monkeypatch, bfloat16, word):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    assert choice.choose_precision("gpu") == word


def test_a_precision_that_is_said_is_taken():
    assert precision.trainer("32-true", accelerator="cpu", logger=False).precision == "32-true"


@pytest.mark.parametrize(("words", "named"), [({"precision": "7-bit"}, "7-bit"), ({"colour": "red"}, "colour")])
def test_a_mistake_is_named(words, named):
    with pytest.raises(InputError, match=named):
        precision.trainer(**{"accelerator": "cpu", "logger": False, **words})


def test_threads_sleep_after_some_spins_unless_the_user_says_otherwise(monkeypatch):
    """Said before torch is imported, which train.py and predict.py leave to hrtem."""
    code = "import os, hrtem, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"

    def said(**environment):
        plain = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        run = subprocess.run([sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True)
        return run.stdout.split()

    assert said() == ["2000", "False"]
    assert said(GOMP_SPINCOUNT="7") == ["7", "False"]
    assert said(OMP_WAIT_POLICY="PASSIVE") == ["None", "False"]
    for script in ("train.py", "predict.py"):
        lines = (ROOT / script).read_text().splitlines()
        assert not any(
            line.startswith(("import torch", "import pytorch", "from torch", "from pytorch")) for line in lines
        )
