"""Devices, and what they measured: answers, latencies and a description, signed with the device's own key."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, Text


class Device(Record):
    """A device that may send measurements: its name, its hardware profile, its Ed25519 key (PEM)."""

    kind: ClassVar[str] = "device"
    event: ClassVar[str] = "device.registered"

    device: Name
    profile: Name
    public_key: Annotated[str, Field(max_length=2000)]
    registered_by: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by its name; the newest one counts."""
        return (self.device,)


class DeviceMeasurement(Record):
    """What one device answered to one kit, as it signed it.

    ``challenge`` is the digest of the kit's description, ``signed`` that of the bytes that the device signed and
    ``answers`` that of the array of raw outputs; all three are blobs.  ``run`` is named as in policies, without the
    device.
    """

    kind: ClassVar[str] = "device-measurement"
    event: ClassVar[str] = "device.measured"

    device: Name
    registration: Digest
    candidate: Digest
    dataset: Digest
    run: Annotated[str, Field(max_length=100)]
    challenge: Digest
    signed: Digest
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]
    answers: Digest
    described: dict[str, Annotated[str, Field(max_length=300)]]
    """What the device says of itself: machine, system, versions; as stated by the holder of its key."""
    latency_ms: Annotated[tuple[float, ...], Field(min_length=1, max_length=1_000_000)]
    cold_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    memory_bytes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """None where the device does not say it."""
    meter: Digest | None = None
    """The log of a power meter, which the device does not sign."""
    admitted_by: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the device, the candidate, and the challenge, which counts once."""
        return (self.device, self.candidate, self.challenge)
