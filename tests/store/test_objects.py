"""The folder in which pictures are kept."""

import os
import stat

import pytest

from include.store.objects import FolderStorage

KEY = "thumbs/ab/abcdef.jpg"


@pytest.fixture
def storage(tmp_path):
    return FolderStorage(tmp_path / "kept")


def test_what_was_put_is_there(storage, tmp_path):
    assert not storage.has(KEY)
    assert not (tmp_path / "kept").exists()
    storage.put(KEY, b"picture", "image/jpeg")
    assert storage.has(KEY)
    assert (tmp_path / "kept" / KEY).read_bytes() == b"picture"
    assert [path.name for path in (tmp_path / "kept" / KEY).parent.iterdir()] == ["abcdef.jpg"]
    assert not storage.has("thumbs/ab")
    assert not storage.has("thumbs/ab/other.jpg")
    storage.put(KEY, b"two", "image/jpeg")
    assert (tmp_path / "kept" / KEY).read_bytes() == b"two"


def test_others_may_read_it(storage, tmp_path):
    umask = os.umask(0o022)
    try:
        storage.put(KEY, b"picture", "image/jpeg")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "kept" / KEY).stat().st_mode) == 0o644


@pytest.mark.parametrize("key", ["../out.jpg", "thumbs/../../out.jpg", "/tmp/out.jpg", "", ".", "thumbs/.."])
def test_never_outside(storage, tmp_path, key):
    for use in (storage.has, lambda key: storage.put(key, b"x", "image/jpeg")):
        with pytest.raises(ValueError, match="leads out"):
            use(key)
    assert list(tmp_path.iterdir()) == []


def test_not_through_a_link_either(storage, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kept" / "thumbs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out"):
        storage.put(KEY, b"x", "image/jpeg")


def test_nothing_is_left_of_what_was_not_finished(storage, tmp_path, monkeypatch):
    def no_room(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        storage.put(KEY, b"x", "image/jpeg")
    assert not storage.has(KEY)
    assert list((tmp_path / "kept" / KEY).parent.iterdir()) == []
