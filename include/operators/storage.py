"""The object storage for images: the Airflow Variable `thumbs_storage`, a URL for Airflow's object storage.

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
"""Name of the argument for the content type, by protocol."""


class BucketStorage:
    """Stores objects under a path of Airflow's object storage."""

    def __init__(self, root: ObjectStoragePath) -> None:
        self._root = root
        self._fs = root.fs
        self._content_type = _CONTENT_TYPE_OF.get(root.protocol)

    def has(self, key: str) -> bool:
        """Return whether an object with this key exists."""
        return bool(self._fs.exists((self._root / key).path))

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object atomically."""
        path = (self._root / key).path
        options = {self._content_type: content_type} if self._content_type else {}
        try:
            self._fs.pipe_file(path, data, **options)
        except FileNotFoundError:  # a local folder must exist; a bucket has no folders
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, data, **options)


def thumbs_storage() -> ObjectStorage:
    """Return the storage at the URL in the Variable; without one, a folder `thumbs` next to AIRFLOW_HOME or in it.

    Raises:
        ConfigurationError: the Variable is not a URL, the provider package is not installed, or the connection does not
            exist.
    """
    from include.store.objects import FolderStorage

    url = str(Variable.get(VARIABLE, default=None) or "").strip()
    if not url:
        return FolderStorage(_default_folder())
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise ConfigurationError(f"The Variable {VARIABLE} is {url!r}: a local folder is file:///path/to/folder")
        return FolderStorage(Path(url2pathname(parts.path)))
    if not parts.scheme or "://" not in url:
        raise ConfigurationError(
            f"The Variable {VARIABLE} is {redact(url)!r}: expected a URL such as s3://… or file:///…"
        )
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
    """`thumbs` next to AIRFLOW_HOME, where it survives a new AIRFLOW_HOME.

    It is inside AIRFLOW_HOME when the parent is read-only, as in containers.
    """
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().resolve()
    folder = home.parent / "thumbs"
    return folder if os.access(folder if folder.exists() else home.parent, os.W_OK) else home / "thumbs"
