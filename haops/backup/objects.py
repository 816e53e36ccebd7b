"""Repositories in object stores: S3, Google Cloud Storage, Azure.

Where they are reached and by which key is said by the environment alone, in the words of
`obstore` and of the clouds' own tools: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ALLOW_HTTP, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from haops.backup.storage import ObjectMissing, StorageTrouble, StoredObject
from haops.errors import BadInput, EnvironmentTrouble

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

SCHEMES: Final = ("s3", "gs", "az")

# How the names of environment variables begin, and how those of connections go on.
_CLOUDS: Final = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_CLIENT_WORDS: Final = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate")

_TIMEOUT: Final = timedelta(seconds=60)
_CONNECT: Final = timedelta(seconds=5)
# obstore's own default waits three minutes for an endpoint that is not there.
_RETRIES: Final = 5
_RETRY_FOR: Final = timedelta(seconds=30)
_PAGE: Final = 1000
_NO_BUCKET: Final = "NoSuchBucket"
_NOT_LET_IN: Final = ("status code: 401 ", "status code: 403 ")


class ObjectStorage:
    """A bucket, or a folder of one, over any store of `obstore`."""

    near = False

    def __init__(self, store: ObjectStore, label: str) -> None:
        self._store = store
        self._label = label.rstrip("/")

    @property
    def label(self) -> str:
        """The URL."""
        return self._label

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        import obstore

        with self._told("read", key):
            return bytes(obstore.get(self._store, key).bytes())

    def put(self, key: str, content: bytes) -> None:
        """Write an object; the store makes it atomic."""
        import obstore

        with self._told("write", key):
            obstore.put(self._store, key, content)

    def put_new(self, key: str, content: bytes) -> bool:
        """Look, then write on the condition that the key is free.

        Some servers refuse conditions, others pass over them and overwrite: those are why it looks.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError

        if self.size(key) is not None:
            return False
        with self._told("write", key):
            try:
                obstore.put(self._store, key, content, mode="create")
            except AlreadyExistsError:
                return False
            except NotSupportedError:
                obstore.put(self._store, key, content)
        return True

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """List page by page."""
        import obstore

        with self._told("list", prefix):
            for page in obstore.list(self._store, prefix=prefix.rstrip("/") or None, chunk_size=_PAGE):
                for found in page:
                    yield StoredObject(found["path"], found["size"], found["last_modified"])

    def size(self, key: str) -> int | None:
        """An object's size."""
        import obstore

        try:
            with self._told("look at", key):
                return obstore.head(self._store, key)["size"]
        except ObjectMissing:
            return None

    def delete(self, key: str) -> None:
        """Remove an object."""
        import obstore

        try:
            with self._told("remove", key):
                obstore.delete(self._store, key)
        except ObjectMissing:
            return

    def settle(self, prefix: str) -> None:
        """An object store answers when it is so."""

    @contextmanager
    def _told(self, doing: str, key: str) -> Iterator[None]:
        """Errors of `obstore` as errors of ours, with what to do."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        where = f"{self._label}/{key}"
        try:
            yield
        except FileNotFoundError as error:
            # Nothing has to be there for these but the bucket.
            if doing not in ("write", "list") and _NO_BUCKET not in str(error):
                raise ObjectMissing(f"{where} is missing") from None
            hint = "make the bucket, or check its name and where it is (such as AWS_ENDPOINT_URL, AWS_REGION)"
            raise StorageTrouble(f"cannot {doing} {where}: there is no such bucket", hint=hint) from error
        except BaseError as error:
            told = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            # Of listing and removing, `obstore` has no such kinds of errors.
            if told or any(word in str(error) for word in _NOT_LET_IN):
                hint = "check the credentials in the environment (such as AWS_ACCESS_KEY_ID) and what they may do"
                raise StorageTrouble(f"may not {doing} {where}", detail=_words(error), hint=hint) from error
            hint = "check the address in the environment (such as AWS_ENDPOINT_URL; AWS_ALLOW_HTTP=true for http)"
            raise StorageTrouble(f"cannot {doing} {where}", detail=_words(error), hint=hint) from error


def open_objects(url: str) -> ObjectStorage:
    """The storage at `s3://BUCKET/PREFIX`, `gs://...` or `az://...`; asks nothing of the network yet.

    Raises:
        BadInput: Another scheme, or no bucket.
        EnvironmentTrouble: `obstore` is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest.strip("/"):
        allowed = ", ".join(f"{s}://BUCKET/PREFIX" for s in SCHEMES)
        raise BadInput(f"{url!r} is no repository", hint=f"a folder, or {allowed}")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise EnvironmentTrouble(
            "object stores need one more package", hint="pip install 'haops[objects]'"
        ) from None
    try:
        store = from_url(
            url,
            client_options={"timeout": _TIMEOUT, "connect_timeout": _CONNECT, **_client_words(scheme)},
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_FOR},
        )
    except (BaseError, ValueError) as error:
        raise BadInput(f"{url!r} cannot be opened", detail=_words(error)) from error
    return ObjectStorage(store, url)


def _client_words(scheme: str) -> ClientConfig:
    """What the environment says of connections, which `obstore` forgets once it is given any option."""
    found = {name: os.environ.get(f"{_CLOUDS[scheme]}_{name}".upper()) for name in _CLIENT_WORDS}
    return cast("ClientConfig", {name: word for name, word in found.items() if word})


def _words(error: Exception) -> str:
    """The first line of an error; what follows in it is for `obstore`'s developers."""
    return str(error).strip().partition("\n")[0]
