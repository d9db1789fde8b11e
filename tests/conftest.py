"""One torch thread for the tests: small networks gain nothing from two, and their training repeats exactly."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

LONGEST = (
    "demo/test_demo",
    "web/test_schemathesis",
    "adapters/test_jobs_kills",
    "adapters/test_on_ray",
    "services/test_blocked",
    "test_plugins",
    "pruning/test_families",
    "adapters/test_mlflow_registry",
)
"""Files that take longest start first, so that no worker is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))
