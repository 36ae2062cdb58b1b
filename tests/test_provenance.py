"""What a run folder says of where results come from."""

from __future__ import annotations

from omegaconf import OmegaConf

from hrtem import provenance


def test_record_resolves_and_tells_where_a_run_came_from(tmp_path):
    config = OmegaConf.create({"a": 1, "b": "${a}"})
    provenance.record(config, tmp_path, cache_key="abc")
    assert (tmp_path / "config.yaml").read_text() == "a: 1\nb: 1\n"
    text = (tmp_path / "provenance.json").read_text()
    for word in ("revision", "command", "torch", "cache_key"):
        assert word in text


def test_revision_names_a_commit_or_says_that_it_is_unknown():
    revision = provenance.git_revision().rstrip("+")
    assert revision == "unknown" or len(revision) == 40


def test_checksum(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert provenance.sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
