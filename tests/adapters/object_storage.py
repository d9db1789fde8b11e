"""Object storage of the test's own: moto's S3 server on a free loopback port."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import pytest


@contextmanager
def object_storage() -> Iterator[str]:
    """The address of a server that speaks S3; its client's environment is set while it lasts."""
    server_module = pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[s3,server]'")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    from botocore.loaders import JSONFileLoader

    with pytest.MonkeyPatch.context() as environment:
        # Each client reads megabytes of service descriptions anew; they are the same for all.
        read = cache(partial(JSONFileLoader.load_file, JSONFileLoader()))
        environment.setattr(JSONFileLoader, "load_file", lambda _self, path: read(path))
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


def new_bucket() -> str:
    """The URL of an empty place in a bucket of its own."""
    name = f"b{uuid.uuid4().hex}"
    storage_client().mkdir(name)
    return f"s3://{name}/blobs"


def storage_client() -> Any:
    """The server as its owner sees it."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
