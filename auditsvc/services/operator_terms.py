"""Terms that the operator's settings give: a YAML file, mounted where it runs, that binds without two people.

    face-gender:
      policy: standard                       # a shipped name, or a digest of the ledger
      datasets: ["sha256:..."]
      slices: {"gender=F": 125}
      reason: the terms of the release board

The other fields are those of ``auditsvc terms set``.  The file is read when a process starts; terms that differ from
those that bind become a record, which says that the operator set them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from auditsvc.datasets.description import UniqueKeys
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import Context
from auditsvc.records import ReleaseTerms, digest_of, faults_of
from auditsvc.services.policies import resolve_remote_policy
from auditsvc.services.terms import TermsDraft, binding_terms, terms_fields


class _ModelTerms(TermsDraft, extra="forbid"):
    policy: str = Field(min_length=1)


def read_operator_terms(path: Path) -> dict[str, Any]:
    """The fields of each model's terms.

    Raises:
        InvalidInput: no mapping of models.
        Unavailable: the file can't be read.
    """
    try:
        found = yaml.load(path.read_text("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise Unavailable(f"the terms {path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the terms {path} are not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"the terms {path} name no models: write MODEL: and its terms below")
    return found


def apply_operator_terms(ctx: Context, path: Path) -> None:
    """Let the terms of this file bind their models.

    Raises:
        InvalidInput: terms that can't be used, with every fault.
        NotFound: a policy that is not there.
        Conflict: the ledger holds another policy under the name and version of one of these.
    """
    for model, fields in read_operator_terms(path).items():
        try:
            given = _ModelTerms.model_validate(fields)
            policy = resolve_remote_policy(given.policy, ctx.ledger)
            made = ReleaseTerms(
                **terms_fields(ctx, model, policy, given),
                proposal=digest_of(path.read_bytes()),
                proposed_by="operator",
                confirmed_by="settings",
                operator=True,
            )
        except ValidationError as error:
            raise InvalidInput(f"the terms of {model} in {path} can't be used", faults_of(error)) from error
        known = binding_terms(ctx.ledger, model)
        same = {"at": made.at, "proposal": made.proposal}
        if known is None or known.model_copy(update=same) != made:
            ctx.ledger.append(policy, made, actor="operator")
