"""Attacks on the gate from inside the team, by the shipped commands and routes: ``python -m tests.bench.gate_attacks``

A store is made once, with the commands themselves: a small parent, version 2 released under terms, version 3 rejected.
Each attack gets a copy of it and is one function that says whether it was refused; write one more to try an idea.
Write access to the database and to the model registry counts as inside the team.  One line of JSON: ``attacks``,
``refused``, ``through`` (the names of those that went through).
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

from auditsvc.errors import AuditError
from auditsvc.models import load_model, model_files
from auditsvc.records import RegistryFinding
from auditsvc.web.registry_watcher import RegistryWatcher
from tests.bench import measuring_attacks, release_attacks
from tests.bench.attack_store import (
    ATTACKS,
    BAD,
    EASY,
    GOOD,
    MODEL,
    Inside,
    another,
    attack,
    build,
    later,
    waive_all,
)
from tests.services.line import CARD


@attack
def policy_of_the_same_name(inside: Inside) -> bool:
    """One easy rule under the name of the binding policy, one approval."""
    inside.audit(BAD, inside.policy("rules.yaml", version=99, rules=EASY, approvals=1))
    released = inside.release(BAD, "ann", "bob")
    return not released and inside.gate(BAD) != 0 and inside.gate(BAD, "--policy", "rules") != 0


@attack
def two_policies_of_one_version(inside: Inside) -> bool:
    """Another policy under the name and the version of the binding one."""
    done = inside.audit(BAD, inside.policy("other.yaml", rules=EASY))
    return done.code not in (0, 3) and not inside.release(BAD, "ann", "bob")


@attack
def file_called_standard(inside: Inside) -> bool:
    """A pull request adds a file ``standard`` to the directory in which CI runs ``--policy standard``."""
    inside.policy("standard", policy="easy", rules=EASY)
    with contextlib.chdir(inside.folder):
        done = inside.run("policy", "explain", "standard", store=False)
    return "anything goes" not in done.text


@attack
def easier_data(inside: Inside) -> bool:
    """The same data set's name, without the images that the candidate gets wrong and without its slices."""
    easier = inside.folder / "easier"
    shutil.copytree(inside.data, easier)
    with (easier / "metadata.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (easier / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("label", "camera"))
        writer.writerows((row["label"], "a") for row in rows)
    inside.audit(BAD, inside.policy("rules.yaml"), easier)
    return not inside.release(BAD, "ann", "bob") and inside.gate(BAD) != 0


@attack
def later_audit_flips_the_release(inside: Inside) -> bool:
    """An audit of the released version under a policy that nothing passes."""
    harsh = [{"rule": "floor", "reading": "accuracy/score.clean", "at_least": 1.0, "why": "nothing passes"}]
    inside.audit(GOOD, inside.policy("harsh.yaml", policy="harsh", rules=harsh))
    with inside.service() as (site, _):
        alias = site.ctx.registry.aliased(MODEL, "approved")
    return inside.gate(GOOD) == 0 and alias == GOOD


@attack
def registry_version_made_anew(inside: Inside) -> bool:
    """The model is deleted in MLflow and created again, with other weights as the released version's number."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{inside.store / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    sources = {one.version: one.source for one in client.search_model_versions(f"name='{MODEL}'")}
    client.delete_registered_model(MODEL)
    client.create_registered_model(MODEL)
    for number in ("1", BAD):
        source = next(source for version, source in sources.items() if str(version) == number)
        client.create_model_version(MODEL, source)
    with inside.service() as (site, http):
        RegistryWatcher(site).round()
        answer = http.get("/v1/gate", params={"model": MODEL, "version": GOOD}).json()["answer"]
        alias = site.ctx.registry.aliased(MODEL, "approved")
    return inside.gate(GOOD) != 0 and answer != "approved" and alias is None


@attack
def registry_version_lost(inside: Inside) -> bool:
    """The released version is deleted; the watch has to say so and to watch on."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{inside.store / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.delete_model_version(MODEL, GOOD)
    client.create_registered_model("other")
    client.create_model_version("other", "models")
    client.set_registered_model_alias("other", "approved", "1")
    with inside.service() as (site, http):
        RegistryWatcher(site).round()
        ready = http.get("/readyz").json()["status"]
        counted = 'registry_faults{project="main"} 1' in http.get("/metrics").text
        events = [one for one in site.ctx.ledger.all(RegistryFinding) if one.fault]
        alias = site.ctx.registry.aliased("other", "approved")
    return inside.gate(GOOD) != 0 and ready == "degraded" and counted and len(events) == 1 and alias is None


@attack
def revocation_hidden_in_the_database(inside: Inside) -> bool:
    """Two people revoke the release; then the row is deleted."""
    inside.did("revoke", MODEL, GOOD, "--reason", "a flaw", "--as", "ann")
    inside.did("revoke", MODEL, GOOD, "--as", "bob")
    with inside.database() as raw:
        (digest,) = raw.execute("SELECT digest FROM revocation").fetchone()
        for table in ("subject", "revocation", "record"):
            raw.execute(f"DELETE FROM {table} WHERE digest = ?", (digest,))
    return inside.gate(GOOD) == 4 and inside.run("log", "check").code == 4


@attack
def revocation_cut_off_the_log(inside: Inside) -> bool:
    """As above, with the log's last entries and the nodes over them deleted too."""
    with inside.database() as raw:
        (size,) = raw.execute("SELECT max(idx) + 1 FROM leaf").fetchone()
    inside.did("revoke", MODEL, GOOD, "--reason", "a flaw", "--as", "ann")
    inside.did("revoke", MODEL, GOOD, "--as", "bob")
    with inside.database() as raw:
        for table in ("revocation", "person"):
            raw.execute(f"DELETE FROM {table} WHERE rowid > (SELECT count(*) FROM {table}) - 1")
        digests = [row[0] for row in raw.execute("SELECT digest FROM record WHERE position >= ?", (size,))]
        raw.executemany("DELETE FROM subject WHERE digest = ?", [(one,) for one in digests])
        raw.executemany("DELETE FROM revocation WHERE digest = ?", [(one,) for one in digests])
        raw.execute("DELETE FROM record WHERE position >= ?", (size,))
        raw.execute("DELETE FROM leaf WHERE idx >= ?", (size,))
        for level in range(40):
            raw.execute("DELETE FROM node WHERE level = ? AND idx >= ?", (level, size >> level))
    return inside.gate(GOOD) == 4


@attack
def version_number_given_again(inside: Inside) -> bool:
    """The model is deleted in MLflow; a worse candidate is submitted next and gets the number of the released one."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{inside.store / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).delete_registered_model(MODEL)
    if another(inside, "sparsity=0.96") != GOOD:
        raise RuntimeError("the registry gave another number")
    with inside.service() as (_, http):
        answer = http.get("/v1/gate", params={"model": MODEL, "version": GOOD}).json()["answer"]
    return inside.gate(GOOD) != 0 and answer != "approved"


@attack
def revoked_weights_with_another_note(inside: Inside) -> bool:
    """The weights of a revoked release are submitted again; a text next to them makes them another candidate."""
    folder = shutil.copytree(inside.store / "releases" / MODEL / GOOD / "release", inside.folder / "again")
    (folder / "NOTE.md").write_text("Nothing to see.\n")
    inside.did("revoke", MODEL, GOOD, "--reason", "a flaw", "--as", "ann")
    inside.did("revoke", MODEL, GOOD, "--as", "bob")
    done = measuring_attacks.elsewhere(inside, folder, inside.policy("rules.yaml"), "--json")
    if done.code != 0:
        raise RuntimeError(f"the weights were not approved by the rules: {done.text}")
    return not inside.release(done.fields["version"], "ann", "bob")


@attack
def forged_release_record(inside: Inside) -> bool:
    """The released version's row in the index of releases is copied to the rejected version."""
    with inside.database() as raw:
        position, digest = raw.execute(
            "SELECT position, digest FROM subject WHERE kind = 'release' AND subject = ?", (f"{MODEL}/{GOOD}",)
        ).fetchone()
        row = ("release", f"{MODEL}/{BAD}", position, digest)
        raw.execute("INSERT INTO subject VALUES (?, ?, ?, ?)", row)
    return inside.gate(BAD) != 0


@attack
def waiver_for_ever(inside: Inside) -> bool:
    """A rule is waived until the year 9999."""
    words = ("waive", MODEL, BAD, "--rule", "loss", "--reason", "x", "--until", "9999-12-31", "--as", "ann")
    return inside.run(*words).code == 2


@attack
def waiver_by_an_approver(inside: Inside) -> bool:
    """One person waives every rule and is one of the two approvers."""
    waive_all(inside, "ann")
    return not inside.release(BAD, "ann", "bob")


@attack
def waiver_that_ended(inside: Inside) -> bool:
    """A release that rests on waivers is used after they ended."""
    waive_all(inside, "ann")
    if not inside.release(BAD, "bob", "cyd") or inside.gate(BAD) != 0:
        raise RuntimeError("other people's approvals with waivers were refused")
    with later(400):
        return inside.gate(BAD) != 0


@attack
def waiver_that_ended_before_the_release(inside: Inside) -> bool:
    """A decision that rests on waivers is approved while they hold, and released after they ended."""
    waive_all(inside, "ann")
    for person in ("bob", "cyd"):
        inside.did("approve", MODEL, BAD, "--as", person)
    with later(3):
        return inside.run("release", MODEL, BAD).code != 0 and inside.gate(BAD) != 0


@attack
def one_admin_makes_waiver_and_approver(inside: Inside) -> bool:
    """One admin token issues the token that waives every rule, and the token that approves what is left."""
    with inside.service() as (_, http):

        def issue(name: str) -> dict[str, str]:
            made = http.post("/v1/tokens", json={"name": name, "role": "approver"}).json()
            return {"authorization": f"Bearer {made['token']}"}

        def newest() -> str:
            digest: str = http.get("/v1/decisions", params={"limit": 1}).json()["items"][0]["digest"]
            return f"/v1/decisions/{digest}"

        wendy, until = issue("wendy"), (datetime.date.today() + datetime.timedelta(days=2)).isoformat()
        for rule in ("floor", "loss"):
            http.post(f"{newest()}/waivers", json={"rule": rule, "reason": "x", "until": until}, headers=wendy)
        if inside.audit(BAD, inside.policy("rules.yaml")).code != 0:
            raise RuntimeError("the waivers do not count")
        return http.post(f"{newest()}/approvals", json={}, headers=issue("dan")).status_code == 403


@attack
def parent_that_the_terms_do_not_know(inside: Inside) -> bool:
    """A worse parent is registered after the terms were set: its candidates lose nothing against it."""
    worse = shutil.copytree(inside.folder / "parent", inside.folder / "worse")
    module = load_model(worse).module
    with torch.no_grad():
        for value in module.parameters():
            value[value.abs() < 0.05] = 0
    for name, content in model_files(module.state_dict(), CARD).items():
        (worse / name).write_bytes(content)
    version = another(inside, parent=worse)
    if inside.audit(version, inside.policy("rules.yaml")).code != 0:
        raise RuntimeError("the candidate loses something against its own parent")
    return not inside.release(version, "ann", "bob") and inside.gate(version) != 0


@attack
def evidence_that_is_too_old(inside: Inside) -> bool:
    """A decision is approved, and released 800 days later."""
    with inside.service() as (site, _):
        del site  # nothing but the clock changes
    candidate = another(inside)
    inside.audit(candidate, inside.policy("rules.yaml"))
    with later(800):
        return not inside.release(candidate, "ann", "bob")


@attack
def two_spellings_of_one_name(inside: Inside) -> bool:
    """The submitter ``sue`` approves as ``sue.`` and as ``su-e``."""
    candidate = another(inside)
    inside.audit(candidate, inside.policy("rules.yaml"))
    return not inside.release(candidate, "sue.", "su-e") and not inside.release(candidate, "Sue", "5ue")


@attack
def one_admin_makes_everybody(inside: Inside) -> bool:
    """One admin token issues the tokens of the submitter and of both approvers."""
    candidate = another(inside)
    decided = inside.audit(candidate, inside.policy("rules.yaml"))
    if decided.code != 0:
        raise RuntimeError(f"the good candidate was not approved: {decided.text}")
    with inside.service() as (_, http):

        def issue(name: str, role: str) -> dict[str, str]:
            made = http.post("/v1/tokens", json={"name": name, "role": role}).json()
            return {"authorization": f"Bearer {made['token']}"}

        issue("sue", "submitter")
        found = http.get("/v1/decisions", params={"limit": 1}).json()
        digest = (found.get("items") or found.get("records") or found)[0]["digest"]
        codes = [
            http.post(f"/v1/decisions/{digest}/approvals", json={}, headers=issue(name, "approver")).status_code
            for name in ("dan", "eve")
        ]
    return codes == [403, 403]


@attack
def placeholders_in_signed_statements(inside: Inside) -> bool:
    """What is signed names addresses that nobody owns."""
    signed = release_attacks.signed_in(release_attacks.released(inside))
    return bool(signed) and b"auditsvc.example" not in signed


def run_attacks(base: Path, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run these attacks, or all, each on its own copy of the store; one that could not be tried counts as through."""
    through, tried = [], {name: ATTACKS[name] for name in names or ATTACKS}
    build(base)
    for name, function in tried.items():
        with tempfile.TemporaryDirectory() as place:
            copy = Inside(Path(place) / "copy")
            shutil.copytree(base, copy.folder)
            try:
                refused = function(copy)
            except (RuntimeError, LookupError, ValueError, AuditError):
                traceback.print_exc()
                refused = False
        print(f"{name}: {'refused' if refused else 'THROUGH'}", file=sys.stderr, flush=True)
        if not refused:
            through.append(name)
    return {"attacks": len(tried), "refused": len(tried) - len(through), "through": through}


def main() -> None:
    """Print one line of JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run_attacks(Path(folder), tuple(sys.argv[1:]))))


if __name__ == "__main__":
    main()
