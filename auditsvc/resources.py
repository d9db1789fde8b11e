"""The files that ship with auditsvc: policies, frameworks and report templates."""

from __future__ import annotations

from pathlib import Path

from auditsvc.errors import InvalidInput


def resource_dir(name: str) -> Path:
    """The folder ``policies`` or ``templates``: inside the installed package, or at the top of a checkout.

    Raises:
        InvalidInput: there is no such folder: the installation is broken.
    """
    package = Path(__file__).parent
    checkout = {"policies": package.parent / "policies", "templates": package.parent / "reports" / "templates"}
    for folder in (package / "shipped" / name, checkout.get(name, package)):
        if folder.is_dir() and folder != package:
            return folder
    raise InvalidInput(f"the folder {name!r} is missing from this installation; install auditsvc again")
