"""Cases 37 to 50: the folder."""

from __future__ import annotations

import os
import shutil
import socket

from auditsvc.errors import NotVerified
from auditsvc.provenance import load_verified
from auditsvc.records import Step, Verification
from tests.provenance.cases import case
from tests.provenance.cases_statements import resources
from tests.provenance.forge import Forge
from tests.provenance.sample import AT

for _name in ("extra.bin", ".hidden"):

    @case(37, f"a file {_name} too much", "EXTRA_FILES")
    def _(forge: Forge, name: str = _name) -> None:
        (forge.release / name).write_bytes(b"x")


@case(38, "a file in .git", "EXTRA_FILES")
def _(forge: Forge) -> None:
    (forge.release / ".git").mkdir()
    (forge.release / ".git" / "evil.py").write_bytes(b"x")


@case(39, ".gitattributes is a folder with something in it", "EXTRA_FILES")
def _(forge: Forge) -> None:
    (forge.release / ".gitattributes").mkdir()
    (forge.release / ".gitattributes" / "evil.py").write_bytes(b"x")


@case(40, "an empty folder too much", "EMPTY_DIR")
def _(forge: Forge) -> None:
    (forge.release / "empty").mkdir()


@case(41, "a file replaced by a link to the same bytes", "SYMLINK")
def _(forge: Forge) -> None:
    (forge.release / "config.json").rename(forge.folder / "config.json")
    (forge.release / "config.json").symlink_to(forge.folder / "config.json")


@case(41, "a symbolic link too much", "SYMLINK")
def _(forge: Forge) -> None:
    (forge.release / "link").symlink_to("config.json")


@case(42, "a link to a folder with other content", "SYMLINK")
def _(forge: Forge) -> None:
    (forge.folder / "elsewhere").mkdir()
    (forge.folder / "elsewhere" / "weights.safetensors").write_bytes(b"other")
    (forge.release / "more").symlink_to(forge.folder / "elsewhere")


@case(43, "a hard link to a file outside", "HARDLINK")
def _(forge: Forge) -> None:
    os.link(forge.release / "config.json", forge.folder / "outside.json")


@case(44, "a pipe", "SPECIAL_FILE")
def _(forge: Forge) -> None:
    os.mkfifo(forge.release / "pipe")


@case(44, "a pipe in the place of the weights", "SPECIAL_FILE")
def _(forge: Forge) -> None:
    (forge.release / "weights.safetensors").unlink()
    os.mkfifo(forge.release / "weights.safetensors")


@case(44, "a socket", "SPECIAL_FILE")
def _(forge: Forge) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(forge.release)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.fchdir(here)
        os.close(here)


@case(45, "a file is missing", "MISSING")
def _(forge: Forge) -> None:
    (forge.release / "config.json").unlink()


@case(45, "a file was renamed", "MISSING", "EXTRA_FILES")
def _(forge: Forge) -> None:
    (forge.release / "config.json").rename(forge.release / "configuration.json")


for _title, _change in {
    "a byte flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
}.items():

    @case(45, f"the weights: {_title}", "DIGEST_MISMATCH")
    def _(forge: Forge, change=_change) -> None:
        path = forge.release / "weights.safetensors"
        path.write_bytes(change(path.read_bytes()))


@case(46, "a rename that keeps the root, and statements bound by the root alone", "SUBJECT_MISMATCH", "DECISION")
def _(forge: Forge) -> None:
    (forge.release / "weights.safetensors").rename(forge.release / "weights.pkl")
    resources(forge, lambda listed: [listed[0], listed[1] | {"name": "weights.pkl"}])
    for name in ("provenance", "bom", "audit-accuracy", "audit-lighting", "vsa"):
        forge.restate(name, lambda value: value.update(subject=value["subject"][-1:]))


for _name in ("CONFIG.json", "ｃonfig.json"):

    @case(47, f"{_name} beside config.json", "NAME_COLLISION", "EXTRA_FILES")
    def _(forge: Forge, name: str = _name) -> None:
        (forge.release / name).write_bytes(b"{}")


@case(48, "the folder itself is a link", "SYMLINK", "MISSING")
def _(forge: Forge) -> None:
    forge.release.rename(forge.folder / "moved")
    forge.release.symlink_to("moved")


@case(49, "a file swapped between verifying and loading", "DIGEST_MISMATCH")
def _(forge: Forge) -> Verification:
    before = forge.verify()
    (forge.release / "weights.safetensors").write_bytes(b"swapped")
    try:
        load_verified(forge.folder, trust=forge.trust, at=AT)
    except NotVerified as error:
        codes = [reason.split(": ")[1].split(" ")[0] for reason in error.reasons]
        steps = tuple(Step(step="load", code=code, ok=False, detail="") for code in codes)
        return before.model_copy(update={"verdict": "INVALID", "steps": steps})
    return before


@case(50, "the file that MLflow adds to a download", "EXTRA_FILES")
def _(forge: Forge) -> Verification:
    (forge.release / "registered_model_meta").write_text("model_name: faces\n")
    found = forge.verify()
    return found if "MLflow" in found.reasons[0].detail else found.model_copy(update={"steps": ()})


@case(37, "a folder full of files", "EXTRA_FILES")
def _(forge: Forge) -> None:
    shutil.copytree(forge.attest, forge.release / "attest")
