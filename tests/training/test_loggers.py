"""The journal: loggers, pictures, tables."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import TINY

from hrtem.errors import InputError
from hrtem.training import loggers as journal


def test_the_table_of_a_run_that_is_continued_in_its_folder_is_kept(configuration, tmp_path):
    for part in ("first", "second", "third"):
        journal.logger(configuration(), tmp_path)
        (tmp_path / "metrics.csv").write_text(part)
    texts = [(tmp_path / name).read_text() for name in ("metrics-1.csv", "metrics-2.csv", "metrics.csv")]
    assert texts == ["first", "second", "third"]


def test_a_logger_of_numbers_gets_no_pictures(configuration, tmp_path):
    plain = journal.logger(configuration(), tmp_path)
    assert not journal.takes_pictures(plain)
    journal.log_figure(plain, "examples", tmp_path / "none.png")
    journal.log_table(plain, "dose", ("dose",), [(1,)])
    journal.close(plain)


def test_pictures_every_n_epochs(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(journal, "takes_pictures", lambda logger: True)
    monkeypatch.setattr(journal, "Task", SimpleNamespace)
    monkeypatch.setattr(journal, "examples_figure", lambda task, data, path, views: path)
    monkeypatch.setattr(journal, "log_figure", lambda logger, name, path, step: drawn.append(step))
    each = journal.Journal(str(tmp_path), every_n_epochs=2)
    for epoch in range(4):
        trainer = SimpleNamespace(
            is_global_zero=True, logger=None, sanity_checking=False, current_epoch=epoch, global_step=epoch,
            datamodule=None,
        )  # fmt: skip
        each.on_validation_end(trainer, SimpleNamespace())
    assert drawn == [1, 3]
    with pytest.raises(InputError, match=r"callbacks\.journal\.every_n_epochs must be at least 1, got 0"):
        journal.Journal(str(tmp_path), every_n_epochs=0)


def test_tensorboard_gets_curves_pictures_tables_and_settings(tmp_path, start):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status, _, stderr = start("train.py", *TINY, "logger=tensorboard", "hydra.run.dir=run")
    assert status == 0, stderr
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = events.Tags()
    assert {"val/f1", "val/loss", "against dose/f1"} <= set(tags["scalars"])
    assert [point.step for point in events.Scalars("against dose/f1")] == [1000, 100000]
    assert set(tags["images"]) == {"progress", "examples"}
    texts = {name.removesuffix("/text_summary") for name in tags["tensors"]}
    assert texts == {"config.yaml", "provenance.json", "dose", "confusion"}
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("confusion/text_summary"))
    assert text.splitlines()[0] == "dose | true | found | columns"
