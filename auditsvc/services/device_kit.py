"""Measure on the device: pack a kit, admit what a registered device signed, and read it back as a run of the checks.

``openvino/int8`` in a policy is run here; ``litert/int8@pixel-8`` is what the device ``pixel-8`` answered.  A kit holds
the file of the candidate, the images as the file takes them, a runner and a challenge that counts once.  The signature
says that the holder of the device's key vouches for answers and times; it does not prove which machine made them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from auditsvc.evaluation.energy import Power, metered
from auditsvc.evaluation.latency import RunCost, Turns
from auditsvc.importing.runtime_session import RuntimeSession, file_of, ports_of
from auditsvc.models import Model
from auditsvc.models.model import decoded
from auditsvc.ports import Context
from auditsvc.records import (
    Candidate,
    Device,
    DeviceMeasurement,
    Digest,
    canonical_json,
    digest_of,
    faults_of,
    person_key,
)
from auditsvc.runtimes import run_named
from auditsvc.runtimes.runtime import as_input
from auditsvc.services.deployment import image_as_given, size_counts
from auditsvc.services.model_store import load_stored, runtime_files

KIT, IMAGES, RUNNER = "kit.json", "images.npy", "run.py"
RUNTIMES_ON_DEVICES = ("onnxruntime", "litert")
LARGEST_ANSWERS = 2**30


class _Kit(BaseModel):
    candidate: Digest
    dataset: Digest
    run: str
    model: str
    model_digest: Digest
    images_digest: Digest
    nonce: str


class _Signed(BaseModel):
    """What the runner writes; further fields are kept in the signed bytes and not read."""

    challenge: Digest
    answers_digest: Digest
    latency_ms: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    cold_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    memory_bytes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    described: dict[str, str]
    load_start: float = 0.0
    load_end: float = 0.0
    load_images: int = 0


def register_device(ctx: Context, name: str, profile: str, public_key: bytes, person: str) -> Device:
    """A device with its key; a new registration replaces the one of the same name.

    Raises:
        InvalidInput: no Ed25519 public key in PEM.
    """
    _key(public_key.decode("utf-8", "replace"))
    device = Device(
        device=name, profile=profile, public_key=public_key.decode(), registered_by=person, at=ctx.clock.now()
    )
    ctx.ledger.append(device, actor=person)
    return device


def write_kit(ctx: Context, candidate: Candidate, dataset: Dataset, run: str, folder: Path) -> Digest:
    """Write the kit for a run such as ``litert/int8`` to a new folder; the challenge.

    Raises:
        InvalidInput: no file for this runtime, or a runtime for which there is no runner.
        Conflict: the folder exists.
    """
    runtime, precision = run_named(run)
    if runtime.id not in RUNTIMES_ON_DEVICES:
        raise InvalidInput(f"a kit runs {' or '.join(RUNTIMES_ON_DEVICES)}, not {runtime.id}")
    if folder.exists():
        raise Conflict(f"{folder} exists; name a new folder for the kit")
    files, model = runtime_files(ctx, candidate.files), load_stored(ctx, candidate.files)
    name = file_of(runtime, files)
    (port,) = ports_of(RuntimeSession(runtime, files, precision).graph(), "inputs")
    given = [image_as_given(model, batch.images).float().numpy() for batch in dataset.batches(64)]
    images = as_input(np.concatenate(given), port.shape, port.type)
    kit = _Kit(candidate=candidate.digest, dataset=dataset.ref.digest, run=run, model=name, nonce=secrets.token_hex(32),
               model_digest=digest_of(files[name]), images_digest=digest_of(images.tobytes()))  # fmt: skip
    described = canonical_json(kit.model_dump(mode="json"))
    folder.mkdir(parents=True)
    np.save(folder / IMAGES, images)
    (folder / name).write_bytes(files[name])
    (folder / KIT).write_bytes(described)
    shutil.copyfile(Path(__file__).with_name("kit_runner.py"), folder / RUNNER)
    return ctx.blobs.put(described)


def admit_measurement(
    ctx: Context, folder: Path, device: str, person: str, meter: Path | None = None
) -> DeviceMeasurement:
    """Verify what a device wrote in its kit's folder, and keep it; ``meter`` is the log of a power meter.

    Raises:
        NotFound: no device of this name.
        InvalidInput: files that are missing or no measurement, or answers that are not those that were signed.
        Forbidden: the signature is not the device's, the challenge was not issued here, or ``person`` registered the
            device: who could make up a device would else admit what it says.
        Conflict: this challenge was answered before.
    """
    known = ctx.ledger.find(Device, device)
    if not known:
        raise NotFound(f"no device {device!r} is registered; use auditsvc device add")
    if person_key(known[-1].registered_by) == person_key(person):
        raise Forbidden(f"{person} registered {device}; another person admits what it measured")
    try:
        signed, signature = (folder / "measurement.json").read_bytes(), (folder / "measurement.sig").read_text("ascii")
        _key(known[-1].public_key).verify(base64.b64decode(signature, validate=True), signed)
        said = _Signed.model_validate_json(signed)
        answers = (folder / "answers.npy").read_bytes()
    except OSError as error:
        raise InvalidInput(f"{error.filename} can't be read: {error.strerror}") from error
    except InvalidSignature as error:
        raise Forbidden(f"measurement.sig is not the signature of {device} on measurement.json") from error
    except ValidationError as error:
        raise InvalidInput("measurement.json is no measurement", faults_of(error)) from error
    except ValueError as error:
        raise InvalidInput(f"measurement.sig is no signature in base64: {error}") from error
    if not ctx.blobs.has(said.challenge):
        raise Forbidden("the challenge was not issued here: make the kit with auditsvc kit, and send back its answers")
    kit = _Kit.model_validate_json(ctx.blobs.read(said.challenge))
    if ctx.ledger.find(DeviceMeasurement, said.challenge):
        raise Conflict("this challenge was answered before; make a new kit for another measurement")
    found = _array(answers)
    if digest_of(found.tobytes()) != said.answers_digest or len(found) != len(said.latency_ms):
        raise InvalidInput("answers.npy does not have the answers that were signed, one for each latency")
    measurement = DeviceMeasurement(
        device=device, registration=known[-1].digest, candidate=kit.candidate, dataset=kit.dataset, run=kit.run,
        challenge=said.challenge, signed=ctx.blobs.put(signed), signature=signature.strip(),
        answers=ctx.blobs.put(answers), described=said.described, latency_ms=said.latency_ms, cold_ms=said.cold_ms,
        meter=ctx.blobs.put_file(meter).digest if meter else None, memory_bytes=said.memory_bytes,
        admitted_by=person, at=ctx.clock.now(),
    )  # fmt: skip
    ctx.ledger.append(measurement, actor=person)
    return measurement


def measurement_of(ctx: Context, candidate: Digest, dataset: Digest, run: str) -> DeviceMeasurement | None:
    """The newest measurement of ``litert/int8@pixel-8``; None if the device sent none of this candidate and data."""
    name, _, device = run.partition("@")
    found = (one for one in ctx.ledger.find(DeviceMeasurement, candidate) if (one.device, one.run) == (device, name))
    return next((one for one in reversed(tuple(found)) if one.dataset == dataset), None)


def _admitted(ctx: Context, candidate: Candidate, dataset: Dataset, run: str) -> DeviceMeasurement:
    found = measurement_of(ctx, candidate.digest, dataset.ref.digest, run)
    if found is None:
        raise Unavailable(f"{run.partition('@')[2]} sent no measurement: make a kit with `auditsvc kit`")
    return found


def device_answers(
    ctx: Context, candidate: Candidate, model: Model, dataset: Dataset, run: str
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The device's answers, found by the image that they were given to; the device runs each image alone.

    Raises:
        Unavailable: the device sent none.
    """
    rows = _array(ctx.blobs.read(_admitted(ctx, candidate, dataset, run).answers))
    order = [_name(image) for batch in dataset.batches(64) for image in image_as_given(model, batch.images)]
    if len(order) != len(rows):
        raise InvalidInput(f"the device answered {len(rows)} images; the data set has {len(order)}")
    places = {name: place for place, name in enumerate(order)}

    def answers(images: Tensor) -> Tensor:
        chosen = [places[_name(image)] for image in image_as_given(model, images)]
        return decoded(torch.from_numpy(rows[chosen]), model.card, images.shape[-2:])

    return answers, answers


def device_cost(ctx: Context, candidate: Candidate, dataset: Dataset, run: str) -> RunCost:
    """Latencies, cold start and memory as the device measured them; it has no file of the parent.

    Raises:
        Unavailable: the device sent none.
    """
    found = _admitted(ctx, candidate, dataset, run)
    counts = size_counts(candidate, run_named(run.partition("@")[0])[0], runtime_files(ctx, candidate.files))
    times = np.array(found.latency_ms)
    memory = np.array([found.memory_bytes] if found.memory_bytes else [])
    return RunCost(Turns(times[None]), times, 1, np.array([found.cold_ms]), memory, counts,
                   "the kit has the candidate alone")  # fmt: skip


def device_power(ctx: Context, candidate: Candidate, dataset: Dataset, run: str) -> Power:
    """The power by the meter's log that came with the device's measurement.

    Raises:
        Unavailable: the device sent no measurement, or no log with it.
        InvalidInput: a log that does not cover 60 s of load and of rest.
    """
    found = _admitted(ctx, candidate, dataset, run)
    if found.meter is None:
        raise Unavailable(f"no meter's log came with the measurement of {found.device}: admit it with --meter")
    signed = _Signed.model_validate_json(ctx.blobs.read(found.signed))
    return metered(ctx.blobs.read(found.meter), signed.load_start, signed.load_end, signed.load_images)


def _name(image: Tensor) -> bytes:
    return hashlib.sha256(image.float().contiguous().numpy().tobytes()).digest()


def _array(data: bytes) -> NDArray[np.float32]:
    """The float32 array of an ``.npy`` file; nothing is unpickled."""
    if len(data) > LARGEST_ANSWERS:
        raise InvalidInput(f"answers.npy has {len(data)} bytes; at most {LARGEST_ANSWERS} are admitted")
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInput(f"answers.npy is no array: {str(error)[:200]}") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.ndim < 2:
        raise InvalidInput("answers.npy must be one float32 array with a row for each image")
    return np.ascontiguousarray(found)


def _key(pem: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise InvalidInput("a device's key is an Ed25519 public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("a device's key is an Ed25519 public key in PEM, not of another kind")
    return key
