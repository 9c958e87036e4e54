"""Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, all through obstore.

Credentials and endpoints come from the environment, by the names that the providers' own tools use.
"""

import datetime
import importlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paced.errors import ConfigError, EngineError
from paced.storage.objects import StoredObject, Unavailable

SCHEMES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "abfss": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
CHUNK = 64 * 2**20  # bytes of one request of a large object
TIMEOUT = datetime.timedelta(seconds=120)  # of one request
# Words of a client that found no credentials in the environment and asked the cloud's own machine for them.
NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")
BEHIND = "416 Range Not Satisfiable"  # what begins behind an object's end, as of one that was cut short
EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken")


class CloudObjects:
    """Objects below an address such as ``s3://bucket/prefix``."""

    def __init__(self, url: str):
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            raise ConfigError(f"PACED_STORE={url}: give a folder, or s3://BUCKET/PREFIX, gs://... or az://...")
        try:
            self._api: Any = importlib.import_module("obstore")
            stores: Any = importlib.import_module("obstore.store")
            self._errors: Any = importlib.import_module("obstore.exceptions")
        except ModuleNotFoundError:
            raise ConfigError(
                f"PACED_STORE={url} needs the package obstore: give a folder, or "
                "pip install --editable '.[store]' --constraint constraints.txt"
            ) from None
        self.url, self._names = url.rstrip("/"), SCHEMES[scheme]
        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
        client = {
            "connect_timeout": datetime.timedelta(seconds=10),
            "timeout": TIMEOUT,
            "allow_http": endpoint.startswith("http://"),
        }
        # Of the requests that a large object is put by; all else is in paced/storage/objects.py.
        again = {"max_retries": 3, "retry_timeout": datetime.timedelta(seconds=10)}
        elsewhere = {"endpoint": endpoint} if endpoint and scheme in ("s3", "s3a") else {}
        try:
            self._store: Any = stores.from_url(self.url, client_options=client, retry_config=again, **elsewhere)
        except Exception as error:
            raise ConfigError(f"PACED_STORE={url}: {_reason(error)}") from None

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self._told():
            if length is None:
                return bytes(self._api.get(self._store, name).bytes())
            try:
                return bytes(self._api.get_range(self._store, name, start=start, length=length))
            except self._errors.GenericError as error:
                if BEHIND in str(error):
                    return b""
                raise

    def put(self, name: str, data: bytes | Path) -> None:
        with self._told():
            self._api.put(self._store, name, data, chunk_size=CHUNK)

    def create(self, name: str, data: bytes) -> bool:
        with self._told():
            try:
                self._api.put(self._store, name, data, mode="create", use_multipart=False)
            except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
                return False
            except self._errors.NotSupportedError:
                self._api.put(self._store, name, data, use_multipart=False)
        return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with self._told():
            for page in self._api.list(self._store, prefix or None):
                for found in page:
                    yield StoredObject(found["path"], found["size"], found["last_modified"].timestamp())

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with self._told():
                try:
                    self._api.delete(self._store, name)
                except (self._errors.NotFoundError, FileNotFoundError):
                    continue

    def _told(self) -> "_Told":
        return _Told(self)

    def explained(self, error: BaseException) -> Exception:
        """A client's error as one of those that ``Objects`` names."""
        reason, known = _reason(error), self._errors
        if isinstance(error, known.NotFoundError | FileNotFoundError) and "NoSuchBucket" not in str(error):
            return FileNotFoundError(reason)
        if any(word in str(error) for word in NO_CREDENTIALS):
            return EngineError(f"no credentials for the store {self.url}: set {self._names}, or a role of this machine")
        if any(word in str(error) for word in EXPIRED):
            return EngineError(
                f"the credentials for the store {self.url} have expired: renew them, then run the same command again; "
                "what was committed is kept"
            )
        if isinstance(error, known.PermissionDeniedError | known.UnauthenticatedError | PermissionError):
            return EngineError(
                f"the store {self.url} refuses what these credentials ask ({reason}): let them read, write and list "
                "there, then run the same command again; what was committed is kept"
            )
        if isinstance(error, known.NotFoundError | FileNotFoundError | known.InvalidPathError | ValueError):
            return EngineError(f"the store {self.url} cannot be used ({reason}): see that the bucket is there")
        return Unavailable(reason)


class _Told:
    """Raises a client's error as one of ours."""

    def __init__(self, objects: CloudObjects):
        self._objects = objects

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EngineError | Unavailable):
            raise self._objects.explained(error) from None


def _reason(error: BaseException) -> str:
    """The first line of a client's error, which may go on with all that it has tried."""
    return " ".join(str(error).split("\n\nDebug source:")[0].split())[:200] or type(error).__name__
