"""``device``, ``kit`` and ``admit-measurement``: measure a candidate on the device that will run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, Store, Version, command_group, context_for, print_result

device_app = command_group("Devices that may send measurements.")


@device_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The device's name, as policies name it after @.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its Ed25519 public key (PEM).")],
    profile: Annotated[str, typer.Option(help="Its class of hardware.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Register a device and its key."""
    from auditsvc.services.device_kit import register_device

    found = register_device(context_for(store), name, profile, key.read_bytes(), person)
    print_result(json, {"device": found.device, "digest": found.digest}, f"registered {found.device}")


def cost(
    model: Model,
    version: Version,
    prices: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Prices and volumes, as YAML.")],
    out: Annotated[Path, typer.Option(help="A folder.")],
    profile: Annotated[
        str, typer.Option(help="A class of device: camera, phone, raspberry-pi-4, or a YAML file.")
    ] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Write the buyer's page (cost of ownership) and the annex to procurement clauses from evidence."""
    from auditsvc.services.ownership import write_ownership

    paths = [str(path) for path in write_ownership(context_for(store), model, version, prices, out, profile)]
    print_result(json, {"files": paths}, *paths)


def kit(
    model: Model,
    version: Version,
    data: Annotated[Path, typer.Option(help="The data set that the policy is judged on.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    run: Annotated[str, typer.Option(help="onnxruntime/float32, onnxruntime/int8, litert/int8, ...")] = (
        "onnxruntime/float32"
    ),
    store: Store = None,
    json: Json = False,
) -> None:
    """Pack the candidate's file, the images, a runner and a challenge for a device."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.services.device_kit import write_kit

    ctx = context_for(store)
    challenge = write_kit(ctx, candidate_of(ctx, model, version), ctx.datasets.open(data), run, out)
    words = f"{out}: copy it to the device, run `python run.py --key device.pem`, and bring it back"
    print_result(json, {"kit": str(out), "challenge": challenge}, words)


def admit_measurement(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The kit with the device's answers.")],
    device: Annotated[str, typer.Option(help="The registered device.")],
    person: Person,
    meter: Annotated[Path | None, typer.Option(exists=True, help="A power meter's log (CSV: seconds, watts).")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Verify what a device measured; the next audit judges it where a policy names RUN@DEVICE."""
    from auditsvc.services.device_kit import admit_measurement as admit

    found = admit(context_for(store), folder, device, person, meter)
    words = f"{found.run}@{found.device}: {len(found.latency_ms)} answers of {found.candidate}"
    print_result(json, {"run": f"{found.run}@{found.device}", "digest": found.digest}, words)
