"""Fuzzing of what the service and the importers read from strangers: a value, or an error of ours, whatever it is.

``examples`` has a good input of each parser; ``fuzz`` changes them by a seeded generator for a given time.
"""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from auditsvc.datasets.images import UNREADABLE, read_header
from auditsvc.datasets.table import read_csv
from auditsvc.errors import AuditError
from auditsvc.records import Candidate, Evidence, matches
from auditsvc.records.architecture import ArchitectureCard
from auditsvc.resources import resource_dir
from auditsvc.services.policies import parse_policy
from auditsvc.services.tracing import read_answers
from auditsvc.web.record_routes import _position
from auditsvc.web.v1.uploads import unpack_files
from auditsvc.web.webhook_delivery import WebhookSender
from tests.web import sample

Parser = Callable[[bytes], object]
PIECES = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\\", b"../", b"*" * 50, b"[" * 5000, b"{" * 5000, b"- " * 5000, b"9" * 5000,
    b"1e999", b"-", b"&a", b"*a", b"!!python/object:os.system", b"<<:", b"\r\n", b"\xe2\x80\xae", b"NaN", b",", b'"',
)  # fmt: skip


def _in_file(read: Callable[[Path], object]) -> Parser:
    def parse(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(data)
            return read(path)

    return parse


def _unpack(path: Path) -> None:
    folder = path.with_name("unpacked")
    folder.mkdir()
    unpack_files(path, folder, most=100, allowed=lambda name: "/" not in name, what="files")


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("model.safetensors", "\u00fc" * 90):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"bytes"))
    return made.getvalue()


def _image(form: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (7, 5)).save(made, form)
    return made.getvalue()


def _text(parse: Callable[[str], object]) -> Parser:
    return lambda data: parse(data.decode("utf-8", "replace"))


def _documented(data: bytes) -> object:
    try:
        return read_header(data)
    except UNREADABLE as error:
        return error


CARD = b'{"kind":"architecture","architecture":"resnet18","classes":["a","b"],"input_shape":[3,32,32],"task":"x"}'


def examples() -> dict[str, tuple[Parser, bytes]]:
    """Every parser by name, with a good example of its input."""
    policy = (resource_dir("policies") / "gates" / "standard.yaml").read_bytes()
    return {
        "tar": (_in_file(_unpack), _tar()),
        "policy": (_text(lambda text: parse_policy(text, "policy")), policy),
        "candidate": (Candidate.parse, sample.candidate(1).canonical()),
        "evidence": (Evidence.parse, sample.evidence(1).canonical()),
        "card": (ArchitectureCard.parse, CARD),
        "metadata": (_in_file(read_csv), b"file,label,age\na.png,cat,7\nb.png,dog,9\n"),
        "answers": (_in_file(read_answers), b"image,label\na.png,cat\n"),
        "cursor": (_text(_position), b"YmVmb3JlIDEy"),
        "webhook": (_text(WebhookSender().check), b"https://example.org:8443/hook?x=1"),
        "pattern": (_text(lambda text: matches(text, "accuracy" * 20)), b"accuracy*loss*"),
        **{form: (_documented, _image(form)) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")},
    }


def changed(data: bytes, draw: random.Random) -> bytes:
    """The example with one to four changes: a flipped bit, a piece put in, a part removed or repeated."""
    made = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(made) + 1)
        end = min(len(made), place + draw.randint(1, 40))
        kind = draw.randrange(5)
        if kind == 0 and place < len(made):
            made[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            made[place:place] = draw.choice(PIECES)
        elif kind == 2:
            del made[place:end]
        elif kind == 3:
            made[place:place] = made[place:end] * draw.choice((1, 2, 200))
        else:
            made[place:end] = draw.choice(PIECES)
    return bytes(made)


def fuzz(seconds: float, seed: int = 7) -> tuple[int, list[tuple[str, bytes, str]], float]:
    """The number of inputs, those that ended in another error than ours, and the longest time of one in seconds."""
    draw, known = random.Random(seed), examples()
    count, crashes, longest, end = 0, [], 0.0, time.process_time() + seconds
    while time.process_time() < end:
        for name, (parse, example) in known.items():
            data, began = changed(example, draw), time.process_time()
            try:
                parse(data)
            except AuditError:
                pass
            except Exception as error:  # noqa: BLE001 - what is looked for
                crashes.append((name, data, repr(error)[:200]))
            count, longest = count + 1, max(longest, time.process_time() - began)
    return count, crashes, longest
