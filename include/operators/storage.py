"""Where pictures are kept: the Airflow Variable `thumbs_storage`, a URL that Airflow's object storage understands.

`file:///srv/thumbs`, or with the provider package of the service `s3://conn_id@bucket/prefix`, `gs://…`, `abfs://…`:
https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/objectstorage.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from include.connectors.redaction import redact
from include.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from include.store.objects import ObjectStorage

VARIABLE = "thumbs_storage"
_CONTENT_TYPE_OF = {"s3": "ContentType", "s3a": "ContentType", "gs": "content_type", "gcs": "content_type"}
"""By protocol: what its file system calls the content type."""


class BucketStorage:
    """Objects below a path of Airflow's object storage."""

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._fs = root.fs
        self._content_type = _CONTENT_TYPE_OF.get(root.protocol)

    def has(self, key: str) -> bool:
        """Whether there is an object of this key."""
        return bool(self._fs.exists((self._root / key).path))

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object; a bucket has it whole or not at all."""
        path = (self._root / key).path
        options = {self._content_type: content_type} if self._content_type else {}
        try:
            self._fs.pipe_file(path, data, **options)
        except FileNotFoundError:  # real folders are made, names in a bucket need none
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, data, **options)


def thumbs_storage() -> ObjectStorage:
    """The storage that the Variable names; without it a folder `thumbs` beside AIRFLOW_HOME, or in it.

    Raises:
        ConfigurationError: it is no URL, its provider package is not installed, or its connection does not exist.
    """
    from include.store.objects import FolderStorage

    url = str(Variable.get(VARIABLE, default=None) or "").strip()
    if not url:
        return FolderStorage(_default_folder())
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise ConfigurationError(
                f"The Variable {VARIABLE} is {url!r}: a folder of this machine is file:///its/path"
            )
        return FolderStorage(Path(url2pathname(parts.path)))
    if not parts.scheme or "://" not in url:
        raise ConfigurationError(f"The Variable {VARIABLE} is {redact(url)!r}: a URL is needed, s3://… or file:///…")
    from airflow.sdk import ObjectStoragePath

    try:
        return BucketStorage(ObjectStoragePath(url))
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"The Variable {VARIABLE} is {redact(url)!r}: there is no Airflow connection of that name"
        ) from None
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"The Variable {VARIABLE} is {redact(url)!r}, which cannot be used: {redact(error)}. For s3:// install "
            "apache-airflow-providers-amazon[s3fs], for gs:// apache-airflow-providers-google"
        ) from None


def _default_folder() -> Path:
    """Beside AIRFLOW_HOME, where it outlives a new one; in it where nothing may be written beside, as in an image."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().resolve()
    beside = home.parent / "thumbs"
    return beside if os.access(beside if beside.exists() else home.parent, os.W_OK) else home / "thumbs"
