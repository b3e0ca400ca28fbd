"""Records as dataclasses and as JSON."""

import json
from dataclasses import asdict

import pytest

from lvmzoo import list_models
from training.records import read_record, write_record
from training.release import records
from training.release.records import EntryRecord


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_every_record_is_read_whole_and_survives_being_written(name, tmp_path, monkeypatch):
    stored = json.loads((records.CARDS / f"{name}.json").read_text())
    record = records.read_record(name)
    assert_holds(asdict(record), stored)
    write_record(tmp_path / f"{name}.json", record)
    monkeypatch.setattr(records, "CARDS", tmp_path)
    assert records.read_record(name) == record


def assert_holds(values, stored):
    """Whether nested values have all that is stored."""
    if isinstance(stored, dict):
        for key, value in stored.items():
            assert_holds(values[key], value)
    else:
        assert values == stored


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1}', '{"run": {"entry": "x"}}'])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json holds no EntryRecord"):
        read_record(EntryRecord, tmp_path / "x.json")
