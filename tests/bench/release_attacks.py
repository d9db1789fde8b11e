"""Attacks on what a release rests on: consent, terms, the files that are signed, and what a verifier says of them.

Registered with ``tests.bench.gate_attacks``, which runs them.
"""

from __future__ import annotations

import base64
import datetime
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from auditsvc.adapters.oidc import OidcIssuer
from auditsvc.models import WEIGHTS
from auditsvc.records import Candidate, Submission, digest_of
from auditsvc.runtimes.openvino import OpenVino
from auditsvc.web.auth.oidc_roles import OidcUsers, parse_role_grants
from auditsvc.web.registry_watcher import RegistryWatcher
from tests.bench.attack_store import BAD, GOOD, MODEL, RULES, Inside, another, attack, later, waive_all
from tests.bench.measuring_attacks import MARGIN, elsewhere
from tests.importing.graphs import brightness
from tests.services.line import data_in
from tests.web.test_oidc import AUDIENCE, LocalIssuer


def bind(inside: Inside, policy: Path, *more: object) -> None:
    """Two people set the terms of the model."""
    inside.did("terms", "set", MODEL, "--policy", policy, *more, "--as", "ann")
    inside.did("terms", "confirm", MODEL, "--as", "bob")


def tomorrow() -> datetime.date:
    """A day on which a waiver can end."""
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).date()


def released(inside: Inside, version: str = GOOD) -> Path:
    """The folder of a release."""
    return inside.store / "releases" / MODEL / version


def signed_in(folder: Path) -> bytes:
    """All that the attestations in a folder say."""
    envelopes = (json.loads(path.read_bytes())["dsseEnvelope"] for path in folder.rglob("*.sigstore.json"))
    return b"".join(base64.b64decode(one["payload"]) for one in envelopes)


def weights_of(inside: Inside, version: str) -> bytes:
    """The weights that were submitted as this version."""
    with inside.service() as (site, _):
        (submitted,) = site.ctx.ledger.find(Submission, f"{MODEL}/{version}")
        files = {one.name: one.digest for one in site.ctx.ledger.get(Candidate, submitted.candidate).files}
        return site.ctx.blobs.read(files[WEIGHTS])


def verified(inside: Inside, *more: object) -> tuple[int, str]:
    """The exit code and the text of ``auditsvc verify`` of the released version."""
    key = inside.store / "keys" / "release.pub"
    done = inside.run("verify", released(inside), "--key", key, *more, store=False)
    return done.code, done.text


@attack
def objection_judged_away(inside: Inside) -> bool:
    """A person rejects the decision; a waiver of a mere warning makes a new one, without that objection."""
    warning = {"rule": "perfect", "reading": "accuracy/drop.clean", "at_most": -0.5, "severity": "warn", "why": "x"}
    rules = inside.policy("noted.yaml", policy="noted", rules=[*RULES["rules"], warning])
    bind(inside, rules, "--data", inside.data)
    version = another(inside)
    if inside.audit(version, rules).code != 0:
        raise RuntimeError("the good candidate was not approved")
    inside.did("reject", MODEL, version, "--reason", "it fails at night", "--as", "cyd")
    inside.did("waive", MODEL, version, "--rule", "perfect", "--reason", "x", "--until", tomorrow(), "--as", "dan")
    if inside.audit(version, rules).code != 0:
        raise RuntimeError("the second decision does not approve")
    refused = not inside.release(version, "ann", "bob")
    inside.did("reject", MODEL, version, "--reason", "mended", "--withdraw", "--as", "cyd")
    if not inside.release(version, "ann", "bob"):
        raise RuntimeError("it can't be released without the objection")
    return refused


@attack
def objection_left_behind(inside: Inside) -> bool:
    """A person rejects a version; its weights are submitted again with a note, which makes another candidate without an
    objection and without earlier decisions."""
    version, rules = another(inside), inside.policy("rules.yaml")
    inside.audit(version, rules)
    inside.did("reject", MODEL, version, "--reason", "it fails at night", "--as", "cyd")
    folder = shutil.copytree(inside.folder / "parent", inside.folder / "noted")
    (folder / WEIGHTS).write_bytes(weights_of(inside, version))
    (folder / "NOTE.md").write_text("Nothing to see.\n")
    done = elsewhere(inside, folder, rules, "--json")
    if done.code != 0:
        raise RuntimeError(f"the weights were not approved by the rules: {done.text}")
    again = str(done.fields["version"])
    refused = not inside.release(again, "ann", "bob")
    inside.did("reject", MODEL, again, "--reason", "mended", "--withdraw", "--as", "cyd")
    if not inside.release(again, "ann", "bob"):
        raise RuntimeError("it can't be released without the objection")
    first = inside.did("show", MODEL, version, "--json").fields["decision"]
    return refused and first.encode() in signed_in(released(inside, again))


@attack
def one_subject_under_two_names(inside: Inside) -> bool:
    """One subject of the OIDC issuer changes the preferred name and approves a second time."""
    issuer, version = LocalIssuer(), another(inside)
    inside.audit(version, inside.policy("rules.yaml"))
    with inside.service() as (site, http):
        grants = parse_role_grants("ml-leads=approver", ())
        site.people = OidcUsers(OidcIssuer(issuer.url, AUDIENCE), grants, site.access.bind)
        digest = http.get("/v1/decisions", params={"limit": 1}).json()["items"][0]["digest"]
        approvers = []
        for name in ("gus", "gustav"):
            bearer = {"authorization": f"Bearer {issuer.token(preferred_username=name)}"}
            made = http.post(f"/v1/decisions/{digest}/approvals", json={}, headers=bearer)
            approvers.append(made.json().get("approver"))
    issuer.server.shutdown()
    issuer.server.server_close()
    return approvers == ["gus", "gus"] and inside.run("release", MODEL, version).code != 0


@attack
def alias_moved_by_hand(inside: Inside) -> bool:
    """The alias that consumers load is moved to the rejected version in the registry itself."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{inside.store / 'mlflow.db'}"
    with inside.service() as (site, _):
        MlflowClient(tracking_uri=uri, registry_uri=uri).set_registered_model_alias(MODEL, "approved", BAD)
        with later(1):  # a move within a minute after one by auditsvc may be that one
            moved = RegistryWatcher(site).round()
        return bool(moved) and site.ctx.registry.aliased(MODEL, "approved") == GOOD and inside.gate(BAD) != 0


@attack
def rollback_to_a_revoked_release(inside: Inside) -> bool:
    """A release is revoked, and two people roll the next one back to it."""
    version = another(inside)
    inside.audit(version, inside.policy("rules.yaml"))
    if not inside.release(version, "ann", "bob"):
        raise RuntimeError("the good candidate was not released")
    for person in ("ann", "bob"):
        inside.did("revoke", MODEL, GOOD, "--reason", "a flaw", "--as", person)
    for person in ("cyd", "dan"):
        inside.run("rollback", MODEL, "--version", GOOD, "--reason", "x", "--as", person)
    with inside.service() as (site, _):
        return inside.gate(GOOD) == 5 and site.ctx.registry.aliased(MODEL, "approved") != GOOD


@attack
def waiver_on_the_other_data(inside: Inside) -> bool:
    """Terms with two data sets: the waiver is one of the decision on the second, and the first is released."""
    second = data_in(inside.folder / "second", 40, seed=9)
    rules = inside.policy("two.yaml", policy="two", rules=MARGIN)
    bind(inside, rules, "--data", inside.data, "--data", second)
    version = another(inside)
    codes = [inside.audit(version, rules, data).code for data in (inside.data, second)]
    inside.did("waive", MODEL, version, "--rule", "loss", "--reason", "x", "--until", tomorrow(), "--as", "ann")
    codes += [inside.audit(version, rules, data).code for data in (second, inside.data)]
    if codes != [0, 3, 0, 0]:
        raise RuntimeError(f"the decisions are others: {codes}")
    return not inside.release(version, "ann", "bob") and not inside.release(version, "cyd", "dan")


@attack
def slice_that_the_terms_require(inside: Inside) -> bool:
    """The terms require more images of a slice than the data has, or a slice that it lacks."""
    rules = inside.policy("rules.yaml")
    version, data = another(inside), inside.run("gate", MODEL, GOOD, "--json").fields["data"][0]["digest"]
    for needed in ("camera=a:190", "camera=c:1"):
        if inside.run("terms", "set", MODEL, "--data", inside.data, "--slice", needed, "--as", "ann").code == 0:
            return False
        bind(inside, rules, "--data", data, "--slice", needed)
        if inside.audit(version, rules).code != 3 or inside.release(version, "ann", "bob"):
            return False
    return True


@attack
def description_that_says_more(inside: Inside) -> bool:
    """The images of the terms with another description: the owner calls them independent, or declares no classes."""
    version = another(inside)
    for number, changes in enumerate(({"independent": "they are"}, {"slices": []}, {"classes": ["bright", "dark"]})):
        changed = shutil.copytree(inside.data, inside.folder / f"changed-{number}")
        fields = yaml.safe_load((changed / "dataset.yaml").read_text())
        (changed / "dataset.yaml").write_text(yaml.safe_dump(fields | changes))
        inside.audit(version, inside.policy("rules.yaml"), changed)
        if inside.release(version, "ann", "bob"):
            return False
    return True


@attack
def files_planted_before_the_release(inside: Inside) -> bool:
    """The folder of the release is there already, with the weights of the rejected version."""
    version = another(inside)
    inside.audit(version, inside.policy("rules.yaml"))
    weights = weights_of(inside, BAD)
    place = released(inside, version) / "release"
    shutil.copytree(released(inside) / "release", place)
    (place / WEIGHTS).write_bytes(weights)
    return not inside.release(version, "ann", "bob") or (place / WEIGHTS).read_bytes() != weights


@attack
def weights_replaced_in_the_store(inside: Inside) -> bool:
    """After the audit the stored weights of the candidate are overwritten with those of the rejected version."""
    version = another(inside)
    inside.audit(version, inside.policy("rules.yaml"))
    good, bad = weights_of(inside, version), weights_of(inside, BAD)
    places = [one for one in inside.store.rglob("*") if one.is_file() and one.read_bytes() == good]
    for place in places:
        place.chmod(0o600)
        place.write_bytes(bad)
    if not places:
        raise RuntimeError("the weights were not found")
    if not inside.release(version, "ann", "bob"):
        return inside.gate(version) != 0
    return digest_of((released(inside, version) / "release" / WEIGHTS).read_bytes()) == digest_of(good)


@attack
def files_for_runtimes_that_are_not_proven(inside: Inside) -> bool:
    """An OpenVINO file that acts at one batch size, alongside honest weights; and ONNX with a batch of four."""
    brought = shutil.copytree(inside.folder / "parent", inside.folder / "brought")
    if find_spec("openvino"):
        trojan = inside.folder / "trojan.onnx"
        trojan.write_bytes(brightness(flips_at=10))
        OpenVino().convert(trojan, brought)
    fixed = inside.folder / "fixed.onnx"
    fixed.write_bytes(brightness((4, 1, 28, 28)))
    for given in (*[brought] * (brought / "model.xml").exists(), fixed):
        done = elsewhere(inside, given, inside.policy("rules.yaml"), "--json")
        if done.code != 0:
            raise RuntimeError(f"{given.name} was not approved by the rules: {done.text}")
        if not any("can't be released" in one for one in done.fields["obstacles"]):
            return False
        if inside.release(str(done.fields["version"]), "ann", "bob"):
            return False
    return True


@attack
def one_admin_sets_terms_and_revokes(inside: Inside) -> bool:
    """One admin issues the tokens of two people, who set the terms and revoke."""
    easy = inside.policy("easy.yaml", policy="easy")
    inside.audit(BAD, easy)
    with inside.service() as (_, http):

        def issue(name: str) -> dict[str, str]:
            made = http.post("/v1/tokens", json={"name": name, "role": "approver"}).json()
            return {"authorization": f"Bearer {made['token']}"}

        dan, eve = issue("dan"), issue("eve")
        release = http.get("/v1/gate", params={"model": MODEL, "version": GOOD}).json()["release"]
        policy = http.get("/v1/decisions", params={"limit": 1}).json()["items"][0]["record"]["policy"]
        draft = {"policy": policy, "datasets": [digest_of(b"mine")], "reason": "x"}
        http.post(f"/v1/models/{MODEL}/terms", json=draft, headers=dan)
        proposal = http.get(f"/v1/models/{MODEL}/terms").json()["proposal"]
        path = f"/v1/releases/{release}/revocations"
        asked = http.post(path, json={"reason": "x"}, headers=dan).status_code
        codes = [
            http.post(f"/v1/terms-proposals/{proposal}/confirmations", headers=eve).status_code,
            http.post(path, json={}, headers=eve).status_code,
        ]
    if asked != 202:
        raise RuntimeError(f"the request was refused: {asked}")
    return codes == [403, 403] and inside.gate(GOOD) == 0


@attack
def report_overwritten_and_rejection_left_out(inside: Inside) -> bool:
    """A later audit replaces the report of a release; a rejection on other data is not stated."""
    reports = {one: one.read_bytes() for one in inside.store.glob("reports/**/report.html")}
    version = another(inside)
    harsh = [{"rule": "floor", "reading": "accuracy/score.clean", "at_least": 1.0, "why": "nothing passes"}]
    other = data_in(inside.folder / "other", 60, seed=8)
    for number in (version, GOOD):
        inside.audit(number, inside.policy("harsh.yaml", policy="harsh", rules=harsh), other)
    inside.audit(version, inside.policy("rules.yaml"))
    if not inside.release(version, "ann", "bob"):
        raise RuntimeError("the good candidate was not released")
    signed = signed_in(released(inside, version))
    words = inside.did("show", MODEL, version).text + inside.did("report", MODEL, version, "--data", inside.data).text
    kept = all(path.read_bytes() == content for path, content in reports.items())
    return kept and b"harsh-1" in signed and bool(words)


@attack
def verified_under_another_policy(inside: Inside) -> bool:
    """What a buyer requires is not what was audited; and a buyer who requires nothing is not informed of it."""
    answer: dict[str, Any] = inside.run("gate", MODEL, GOOD, "--json").fields
    policy, data = answer["policy_digest"], answer["data"][0]["digest"]
    pins = ("--policy", policy, "--data", data, "--min-images", 200)
    other = digest_of(b"other")
    loose, pinned = verified(inside), verified(inside, *pins)
    if (loose[0], pinned[0]) != (0, 0):
        raise RuntimeError(f"the release does not verify: {loose[1]} {pinned[1]}")
    wrong = (("--policy", other), ("--data", other), ("--min-images", 201))
    shown = policy in loose[1] and data in loose[1] and "200 images" in loose[1]
    return shown and "note" in loose[1] and all(verified(inside, *one)[0] not in (0, 5) for one in wrong)


@attack
def verified_before_it_was_signed_or_after_a_waiver(inside: Inside) -> bool:
    """A release verifies at a time before its signature; one that rests on a waiver verifies after the waiver."""
    with later(-30):
        early = verified(inside)[0]
    waive_all(inside, "ann")
    if not inside.release(BAD, "bob", "cyd"):
        raise RuntimeError("other people's approvals with waivers were refused")
    key = inside.store / "keys" / "release.pub"
    with later(400):
        late = inside.run("verify", released(inside, BAD), "--key", key, store=False).code
    return early == 3 and late not in (0, 5)
