"""A repository of somebody's own, whose files have no known hash, and a pinned entry's."""

import shutil

import pytest
from support.faults import ENTRY, REPOSITORY, Case

import lvmzoo


@pytest.fixture(params=["own", "pinned"])
def case(request, fake_hub, zoo, tmp_path) -> Case:
    expected = lvmzoo.from_pretrained(ENTRY)
    folder = tmp_path / "published"
    expected.save_pretrained(folder)
    shutil.copyfile(zoo.path(ENTRY), folder / "model.safetensors")
    commit = fake_hub.publish(REPOSITORY, folder)
    if request.param == "pinned":
        zoo.edit(ENTRY, repository=REPOSITORY, revision=commit)
        zoo.path(ENTRY).unlink()
        return Case(fake_hub, ENTRY, expected)
    return Case(fake_hub, REPOSITORY, expected)
