"""A worker that was taken over and wants a signature: ``python -m tests.adapters.signer_attacks STORE``.

It starts as every worker does, then tries to get at keys or signatures, and prints one JSON object: for each attack
why it was refused.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from auditsvc.bootstrap import continue_without_keys, open_context
from auditsvc.errors import AuditError
from auditsvc.gate import decide
from auditsvc.provenance.trust.trust_root import RevocationList
from auditsvc.records import Approval, Decision, Release, Submission
from auditsvc.services.terms import binding_terms
from auditsvc.settings import Settings
from tests.contracts.sample import WEIGHTS, a_candidate, a_parent
from tests.fakes import NOON
from tests.fakes.terms import bind_terms
from tests.gate.sample import SHOES, a_loss, a_policy, a_rule, an_evidence, losses

SECRET = "the passphrase of the keys"
EASY = a_policy(a_rule(at_most=0.9), version=2)


def prepare(store: Path) -> None:
    """A store with a candidate that was rejected under its terms, and a trial under an easier policy."""
    ctx = open_context(Settings(store=store, key_passphrase=SECRET), create=True)
    candidate, policy = a_candidate(), a_policy()
    evidence = an_evidence(losses(overall=a_loss(0.3)))
    submission = Submission(candidate=candidate.digest, model="net", version="1", submitter="sue", at=NOON)
    ctx.blobs.put(WEIGHTS)
    ctx.ledger.append(a_parent(), candidate.recipe, candidate, submission, policy, EASY, evidence, actor="sue")
    terms = bind_terms(ctx, "net", policy, SHOES.digest)
    rejected = decide(policy, candidate, [evidence], terms=terms, at=NOON)
    trial = decide(EASY, candidate, [evidence], terms=terms, at=NOON)
    assert (rejected.outcome, trial.outcome, trial.terms) == ("rejected", "approved", None)
    ctx.ledger.append(rejected, trial, actor="auditsvc")
    good, again = a_candidate(1), submission.model_copy(update={"candidate": a_candidate(1).digest, "version": "2"})
    measured = an_evidence(losses(overall=a_loss(0.0)), candidate=good)
    passed = decide(policy, good, [measured], terms=terms, at=NOON)
    ctx.ledger.append(good.recipe, good, again, measured, passed, *consent(passed), actor="sue")
    ctx.keys.signer("log")


def consent(decision: Decision) -> list[Approval]:
    given = {"decision": decision.digest, "candidate": decision.candidate, "at": NOON}
    return [Approval(approver=name, **given) for name in ("ann", "bob")]  # type: ignore[arg-type]


def attacks(store: Path) -> dict[str, Callable[[], object]]:
    """Each attack by name; it is refused if it raises or returns nothing."""
    ctx = open_context(Settings(store=store))
    candidate, signing, signer = a_candidate(), ctx.signing, signer_of(store)
    assert signing is not None
    rejected, trial = ctx.ledger.find(Decision, candidate.digest)
    terms = binding_terms(ctx.ledger, "net")
    assert terms is not None
    forged = rejected.model_copy(update={"outcome": "approved"})
    easy = trial.model_copy(update={"terms": terms.digest})

    def approved(decision: Decision) -> str:
        ctx.ledger.append(decision, *consent(decision), actor="ann")
        return signing.ask("release", decision.digest)

    return {
        "release of a rejected candidate": lambda: signing.ask("release", rejected.digest),
        "release of a forged decision": lambda: approved(forged),
        "release of a decision under another policy": lambda: approved(easy),
        "release of a trial": lambda: approved(trial),
        "release of no decision": lambda: signing.ask("release", candidate.digest),
        "rejection of an approved trial": lambda: signing.ask("rejection", trial.digest),
        "bytes": lambda: signing.ask("sign", "x"),  # type: ignore[arg-type]
        "bytes by the port": lambda: ctx.keys.signer("release").sign(b"x"),
        "another project": lambda: type(signing)(os.environ["AUDITSVC_SIGNER"], "other").ask("checkpoint"),
        "key files": lambda: [*store.rglob("*.key")],
        "key files under the cover": lambda: uncover(store / "keys") or [*store.rglob("*.key")],
        "own environment": lambda: SECRET.encode() in Path("/proc/self/environ").read_bytes(),
        "the signer's environment": lambda: Path(f"/proc/{signer}/environ").read_bytes(),
        "the signer's memory": lambda: Path(f"/proc/{signer}/mem").open("rb"),
        "the signer's view": lambda: [*Path(f"/proc/{signer}/root/{store}/keys").iterdir()],
    }


def uncover(folder: Path) -> None:
    ctypes.CDLL(None).umount2(bytes(folder), 2)


def signer_of(store: Path) -> int:
    """The process number of the signer of this store."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"signer" in words and str(store).encode() in words:
                return int(place.name)
    raise LookupError("there is no signer")


def refusal(attack: Callable[[], object]) -> str:
    """Why it was refused; empty if it was not."""
    try:
        return "" if attack() else "found nothing"
    except (AuditError, OSError) as error:
        return str(error)


def run(folder: Path) -> dict[str, Any]:
    """What a worker of a fresh store can't do, by attack; ``works`` is what it must be able to do."""
    prepare(folder / "store")
    command = [sys.executable, "-m", "tests.adapters.signer_attacks", str(folder / "store")]
    environment = {**os.environ, "AUDITSVC_KEY_PASSPHRASE": SECRET}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    store = Path(sys.argv[1])
    if "AUDITSVC_SIGNER" not in os.environ:
        continue_without_keys(Settings(store=store))
    ctx = open_context(Settings(store=store))
    assert ctx.signing is not None
    rejected = ctx.ledger.find(Decision, a_candidate().digest)[0]
    passed = ctx.ledger.find(Decision, a_candidate(1).digest)[0]
    works = [
        ctx.signing.ask("checkpoint").count("\n") >= 4,
        len(ctx.keys.watermark_secret()) == 32,
        ctx.signing.ask("rejection", rejected.digest) == rejected.digest,
        ctx.ledger.get(Release, ctx.signing.ask("release", passed.digest)).decision == passed.digest,
        RevocationList.parse(ctx.signing.ask("trust").encode()).revocations == (),
    ]
    hidden = Path("/proc/self/uid_map").read_text().split()[2] == "1"
    print(
        json.dumps(
            {"works": all(works), "hidden": hidden} | {name: refusal(attack) for name, attack in attacks(store).items()}
        )
    )


if __name__ == "__main__":
    main()
