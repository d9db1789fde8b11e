"""Cases 51 to 57: attestations that are each good, and do not belong together."""

from __future__ import annotations

from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.records import Verification
from tests.provenance.cases import case
from tests.provenance.forge import Forge
from tests.provenance.sample import DATASET, FILES


@case(51, "a check that the reader asks for was never run", "MISSING_ATTESTATION")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(suites=("accuracy", "fairness")))


@case(51, "the attestation of a check was taken away", "MISSING_ATTESTATION")
def _(forge: Forge) -> None:
    forge.path("audit-lighting").unlink()


@case(51, "the bill of materials was taken away", "MISSING_ATTESTATION")
def _(forge: Forge) -> None:
    forge.path("bom").unlink()


@case(52, "the result of another model", "SUBJECT_MISMATCH")
def _(forge: Forge) -> None:
    other = Forge(forge.folder / "other", {"weights.safetensors": b"better", "config.json": b"{}"}, forge.keys)
    forge.store("audit-accuracy", other.bundle("audit-accuracy").payload)
    forge.link("audit-accuracy")


@case(53, "an old result replayed for new weights", "SUBJECT_MISMATCH")
def _(forge: Forge) -> None:
    old = Forge(forge.folder / "old", {**FILES, "weights.safetensors": b"the version before"}, forge.keys)
    bundle = old.bundle("audit-accuracy")
    signer = forge.keys.signer("audit")
    relogged = forge.logged(Bundle(bundle.hint, bundle.payload, bundle.signature), signer.public_pem)
    forge.path("audit-accuracy").write_bytes(relogged.to_json())
    forge.link("audit-accuracy")


@case(54, "a failed test, and a decision for release", "INPUT_MISMATCH")
def _(forge: Forge) -> None:
    forge.predicate("audit-accuracy", lambda p: p.update(result="FAILED", failedTests=["a/b/c"]))


@case(54, "a failed test that is called passed", "TEST_RESULT")
def _(forge: Forge) -> None:
    forge.predicate("audit-accuracy", lambda p: p.update(failedTests=["a/b/c"]))


@case(54, "readings that were exchanged", "INPUT_MISMATCH")
def _(forge: Forge) -> None:
    def other_report(predicate: dict) -> None:
        predicate["configuration"][-1]["downloadLocation"] = "evidence/lighting.json"

    forge.predicate("audit-accuracy", other_report)


@case(55, "the decision rests on another payload", "INPUT_MISMATCH")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["inputAttestations"][0]["digest"].update(sha256="0" * 64))


@case(55, "an attestation that the decision knows nothing of", "INPUT_MISMATCH")
def _(forge: Forge) -> None:
    forge.path("audit-more").write_bytes(forge.path("audit-accuracy").read_bytes())


@case(56, "another model version than was asked for", "RESOURCE")
def _(forge: Forge) -> Verification:
    return forge.verify(resource="pkg:mlflow/faces@4")


@case(56, "two model versions in one decision", "RESOURCE")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p.update(resourceUri="pkg:mlflow/faces@4"))


@case(56, "another verifier", "VERIFIER")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["verifier"].update(id="https://example.org/verifier"))


@case(56, "a key that may not speak for the verifier", "VERIFIER")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.swap_key("release", ids=("https://example.org/verifier",)))


@case(56, "a policy that the reader does not accept", "POLICY")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(policies=("sha256:" + "0" * 64,)))


@case(56, "a data set that the reader does not accept", "DATA")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(datasets=("sha256:" + "0" * 64,)))


@case(56, "fewer images than the reader requires", "DATA")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(min_images=DATASET.images + 1))


@case(56, "the terms taken out of the decision", "TERMS")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["urn:auditsvc:release:v1"].pop("terms"))


@case(56, "more images than the decision names", "TERMS")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["urn:auditsvc:release:v1"]["data"][0].update(images="99999"))


@case(56, "fewer approvals needed than the terms ask for", "TERMS")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["urn:auditsvc:release:v1"].update(approvals_needed="1"))


@case(56, "another policy than the checks were judged by", "INPUT_MISMATCH", "DECISION")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p["policy"]["digest"].update(sha256="0" * 64))


@case(56, "a decision against the release", "NOT_PASSED", "DECISION")
def _(forge: Forge) -> None:
    forge.predicate("vsa", lambda p: p.update(verificationResult="FAILED", verifiedLevels=["FAILED"]))


@case(56, "the submitter approved", "APPROVALS")
def _(forge: Forge) -> None:
    field = "urn:auditsvc:release:v1"
    forge.predicate("vsa", lambda p: p[field].update(submitter="ada"))


@case(56, "one approval where two are needed", "APPROVALS")
def _(forge: Forge) -> None:
    field = "urn:auditsvc:release:v1"
    forge.predicate("vsa", lambda p: p[field]["approvals"].pop())


for _title, _change in {
    "a parameter that the build type does not have": lambda p: p["buildDefinition"]["externalParameters"].update(x="1"),
    "an unknown build type": lambda p: p["buildDefinition"].update(buildType="https://example.org/build"),
    "a foreign builder": lambda p: p["runDetails"]["builder"].update(id="https://example.org/builder"),
    "no parent": lambda p: p["buildDefinition"].update(resolvedDependencies=[]),
    "two parents": lambda p: p["buildDefinition"]["resolvedDependencies"].append({"name": "parent", "digest": {}}),
}.items():

    @case(57, f"how it was made: {_title}", "PROVENANCE")
    def _(forge: Forge, change=_change) -> None:
        forge.predicate("provenance", change)


@case(57, "a model that is its own parent", "PROVENANCE")
def _(forge: Forge) -> None:
    own = {"sha256": forge.sealing.candidate.digest.removeprefix("sha256:")}
    forge.predicate("provenance", lambda p: p["buildDefinition"]["resolvedDependencies"][0].update(digest=own))


@case(57, "a parent that the reader does not accept", "PROVENANCE")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(parents=("sha256:" + "0" * 64,)))
