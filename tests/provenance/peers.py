"""The peers' own tools, each in a folder of its own under the temporary folder, and kept there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_PLACE = Path(tempfile.gettempdir()) / f"auditsvc-peers-{os.getuid()}"
_NEWEST = os.environ.get("AUDITSVC_PEERS") == "newest"
"""Take the newest versions from the registries, as the CI job ``peers`` does, instead of the known ones."""
_MODEL_SIGNING = "model-signing" if _NEWEST else "model-signing==1.1.1"
_SIGSTORE_JS = (
    ("@sigstore/verify@latest", "@sigstore/bundle@latest", "@sigstore/protobuf-specs@latest")
    if _NEWEST
    else ("@sigstore/verify@4.1.3", "@sigstore/bundle@5.0.1", "@sigstore/protobuf-specs")
)
_VERSIONS = "newest" if _NEWEST else "known"
_GO = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")


def run(*command: str | Path, data: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    """The finished command, whatever it said."""
    merged = os.environ | env
    return subprocess.run([str(part) for part in command], input=data, capture_output=True, env=merged, timeout=600)


def model_signing() -> Path:
    """A Python with model-signing in it, or the reason why there is none."""
    if _NEWEST and importlib.util.find_spec("model_signing"):
        return Path(sys.executable)
    python = _PLACE / f"model-signing-{_VERSIONS}" / "bin" / "python"
    if not (python.exists() and run(python, "-c", "import model_signing").returncode == 0):
        folder = python.parent.parent
        shutil.rmtree(folder, ignore_errors=True)
        made = run(sys.executable, "-m", "venv", folder)
        if made.returncode == 0:
            made = run(python, "-m", "pip", "install", "-q", _MODEL_SIGNING, "pyOpenSSL")
        if made.returncode:
            raise LookupError(f"pip cannot provide model-signing: {made.stderr.decode()[-300:]}")
    return python


def sigstore_js() -> Path:
    """A folder of node modules with @sigstore/verify in it, or the reason why there is none."""
    folder = _PLACE / f"sigstore-js-{_VERSIONS}"
    if not (folder / "node_modules" / "@sigstore" / "verify").exists():
        if not (shutil.which("node") and shutil.which("npm")):
            raise LookupError("node and npm are not installed")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        made = run("npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *_SIGSTORE_JS)
        if made.returncode:
            raise LookupError(f"npm cannot provide @sigstore/verify: {made.stderr.decode()[-300:]}")
    return folder


def go_log() -> Path:
    """The log verifier built with Go's x/mod, or the reason why there is none."""
    if not shutil.which("go") or not _GO.exists():
        raise LookupError("needs the Debian packages golang-go and golang-golang-x-mod-dev")
    _PLACE.mkdir(exist_ok=True)
    binary = _PLACE / "logverify"
    source = Path(__file__).parent / "logverify" / "main.go"
    cache = str(_PLACE / "go-cache")
    made = run("go", "build", "-o", binary, source, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=cache)
    if made.returncode:
        raise LookupError(f"go cannot build the log verifier: {made.stderr.decode()[-300:]}")
    return binary


def or_skip(provide):
    """What ``provide`` gives, or a skipped test that says why."""
    try:
        return provide()
    except LookupError as error:
        pytest.skip(str(error))


def provided(provide):
    """What ``provide`` gives, or None after saying why not."""
    try:
        return provide()
    except LookupError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None
