"""From the Airflow Variable `thumbs_storage` to the storage of images, and the operator that passes it on."""

import pytest

from include.errors import ConfigurationError
from include.inbound.loads import open_load, register_providers
from include.operators.provider_sync import _Batch
from include.providers.titelive_stocks import TiteLiveStocks
from include.store.ledger import LoadParameters
from include.store.objects import FolderStorage

KEY = "thumbs/ab/abcdef.jpg"


@pytest.fixture
def storage(airflow, monkeypatch):
    """A function that gives the storage of a value of the Variable."""
    from include.operators.storage import thumbs_storage

    def build(url=None):
        if url is not None:
            monkeypatch.setenv("AIRFLOW_VAR_THUMBS_STORAGE", url)
        return thumbs_storage()

    return build


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    home = tmp_path / "project" / "airflow"
    home.mkdir(parents=True)
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    return home


def check(storage):
    assert not storage.has(KEY)
    storage.put(KEY, b"picture", "image/jpeg")
    assert storage.has(KEY)
    storage.put(KEY, b"picture", "image/jpeg")


@pytest.mark.parametrize("value", [None, "", " "])
def test_without_a_setting_next_to_airflows_home(storage, at_home, value):
    check(storage(value))
    assert (at_home.parent / "thumbs" / KEY).read_bytes() == b"picture"


def test_inside_it_where_the_parent_is_read_only(storage, at_home, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    check(storage())
    assert (at_home / "thumbs" / KEY).read_bytes() == b"picture"


@pytest.mark.parametrize("prefix", ["file://", "file://localhost"])
def test_a_folder(storage, tmp_path, prefix):
    kept = storage(f"{prefix}{tmp_path}/my%20pictures")
    assert isinstance(kept, FolderStorage)
    check(kept)
    assert (tmp_path / "my pictures" / KEY).read_bytes() == b"picture"


@pytest.fixture
def memory(airflow, monkeypatch):
    """A file system in memory that Airflow knows, as it knows those of installed provider packages."""
    import fsspec
    from airflow.sdk.io import attach, store

    monkeypatch.setattr(store, "_STORE_CACHE", {})
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    attach("memory", fs=memory)
    return memory


def test_another_file_system(storage, memory):
    check(storage("memory://bucket/prefix"))
    assert memory.cat(f"/bucket/prefix/{KEY}") == b"picture"


def test_one_with_real_folders(storage, tmp_path):
    from airflow.sdk import ObjectStoragePath

    from include.operators.storage import BucketStorage

    check(BucketStorage(ObjectStoragePath(f"file://{tmp_path}/deep/folder")))
    assert (tmp_path / "deep" / "folder" / KEY).read_bytes() == b"picture"


def test_a_bucket_receives_the_content_type_of_what_it_gets(storage, memory, monkeypatch):
    import include.operators.storage as module

    sent = []
    monkeypatch.setattr(memory, "pipe_file", lambda *_, **options: sent.append(options))
    monkeypatch.setitem(module._CONTENT_TYPE_OF, "memory", "ContentType")
    storage("memory://bucket").put(KEY, b"picture", "image/jpeg")
    assert sent == [{"ContentType": "image/jpeg"}]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/srv/thumbs", "expected a URL such as"),
        ("s3:bucket", "expected a URL such as"),
        ("file://server/folder", "a local folder is file:///path/to/folder"),
        ("file:///", "a local folder is file:///path/to/folder"),
        ("nothing://bucket", "cannot be used"),
        ("s3://bucket/prefix", "apache-airflow-providers-amazon"),
        ("s3://no_such_connection@bucket", "cannot be used|no Airflow connection"),
    ],
)
def test_what_cannot_be_used(storage, url, reason):
    with pytest.raises(ConfigurationError, match=reason):
        storage(url)


class Pictured(TiteLiveStocks):
    """As it, with pictures."""

    def get_object_thumb_index(self):
        return 1


@pytest.mark.parametrize("provider_class", [Pictured, TiteLiveStocks])
def test_the_operator_hands_it_to_providers_with_pictures(airflow, at_home, connection, monkeypatch, provider_class):
    from include.inbound import run
    from include.models.report import SyncReport

    register_providers(connection)
    load = open_load(connection, TiteLiveStocks, LoadParameters(), run_id="r")
    connection.commit()
    handed = []
    monkeypatch.setattr(
        run, "sync_provider", lambda *_, storage, **__: handed.append(storage) or SyncReport(state="skipped")
    )
    if provider_class is TiteLiveStocks:
        monkeypatch.setenv("AIRFLOW_VAR_THUMBS_STORAGE", "not a URL, and nobody looks")
    with _Batch(connection, load, 0) as batch:
        instance = type("Instance", (), {"operation": "x", "id": 1})()
        batch._connectors["x"] = None
        for _ in range(2):
            batch._sync(instance, provider_class(None, None))
    if provider_class is Pictured:
        assert handed[0] is handed[1]
        assert isinstance(handed[0], FolderStorage)
    else:
        assert handed == [None, None]


def test_the_log_of_a_sync_shows_images(caplog):
    from include.models.report import SyncReport
    from include.operators.step_log import log_steps

    caplog.set_level("INFO")
    log_steps(SyncReport(), None, 1)
    assert "Images" not in caplog.text
    log_steps(SyncReport(checked_thumbs=3, created_thumbs=1, thumb_errors={"gone": 2}), None, 1)
    assert "Images: 3 in 0.00 s" in caplog.text
    assert "2 failed: gone" in caplog.text
