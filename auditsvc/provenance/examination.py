"""An examination: the material of a verification, what was found so far, and who signed what."""

from __future__ import annotations

from dataclasses import dataclass, field

from auditsvc.errors import InvalidInput
from auditsvc.provenance import layout
from auditsvc.provenance.attested import Attested, check_logged, check_window, open_attestation
from auditsvc.provenance.dsse import Bundle
from auditsvc.provenance.manifest import Folder
from auditsvc.provenance.strict import Fault
from auditsvc.provenance.summary import Summary
from auditsvc.provenance.timestamps import check_timestamp
from auditsvc.provenance.transcript import Transcript
from auditsvc.provenance.trust import TrustRoot
from auditsvc.records import Moment, Release

REQUIRED = ("oms", "provenance", "vsa")


@dataclass
class Examination:
    """A verification on its way.

    ``files`` is the release, ``beside`` the attestations, ``contents`` their bytes as they were hashed.
    """

    trust: TrustRoot
    at: Moment
    files: Folder
    beside: Folder
    contents: dict[str, bytes]
    transcript: Transcript = field(default_factory=Transcript)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    attested: dict[str, Attested] = field(default_factory=dict)
    summary: Summary | None = None
    resources: dict[str, str] | None = None

    def attest(self) -> None:
        """Find out which attestations hold: shape, key, role, signature, place in the log, window."""
        self._parse()
        self._open(["vsa"])
        self._summarise()
        if not self.trust.log and self.summary:
            self._vouch(self.summary)
        if "vsa" in self.attested or self.trust.log:
            self._open([name for name in sorted(self.bundles) if name != "vsa"])
        else:
            self.transcript.note("The other attestations were not checked: only the summary vouches for their keys.")
        for name in sorted(self.attested):
            self._place(self.attested[name])
        self._one_log()

    def listed(self) -> dict[str, str]:
        """The files that the summary says lie beside it, by digest."""
        beside = self.summary.release.beside if self.summary else ()
        return {item.name: f"sha256:{item.digest.sha256}" for item in beside}

    def vouched_contents(self) -> dict[str, bytes]:
        """The files beside the summary that have the bytes which it names."""
        listed = self.listed()
        return {
            file.name: self.contents[file.name] for file in self.beside.files if listed.get(file.name) == file.digest
        }

    def _parse(self) -> None:
        if self.beside.faults:
            self.transcript.failed("attestations", self.beside.faults)
        names = sorted(name.removesuffix(layout.SUFFIX) for name in self.contents if name.endswith(layout.SUFFIX))
        for name in names:
            with self.transcript.step(f"bundle {name}") as seen:
                if layout.type_of(name) is None or "/" in name:
                    raise Fault("EXTRA_FILES", f"{name}{layout.SUFFIX} has no meaning in a release")
                bundle = self.bundles[name] = Bundle.parse(self.contents[name + layout.SUFFIX])
                if bundle.to_json() != self.contents[name + layout.SUFFIX]:
                    raise Fault("BUNDLE_SHAPE", "the bundle is not in the canonical form in which it was written")
                seen.detail = f"key {bundle.hint[:16]}..., payload {bundle.payload_digest[:23]}..."
        missing = [name for name in REQUIRED if name not in names]
        faults = (Fault("MISSING_ATTESTATION", f"{name}{layout.SUFFIX} is not there") for name in missing)
        self.transcript.failed("attestations", faults)

    def _open(self, names: list[str]) -> None:
        for name in names:
            kind = layout.type_of(name)
            if name not in self.bundles or kind is None:
                continue
            with self.transcript.step(f"signature {name}") as seen:
                attested = self.attested[name] = open_attestation(name, self.bundles[name], self.trust, kind)
                seen.detail = f"by the {attested.key.role} key, {kind}"

    def _summarise(self) -> None:
        if "vsa" not in self.attested:
            return
        with self.transcript.step("summary") as seen:
            summary = Summary.parse(self.attested["vsa"].statement.predicate)
            summary.check_consistent()
            self.summary = summary
            seen.detail = f"{summary.resource_uri}: {summary.result} under {summary.policy.uri}"

    def _vouch(self, summary: Summary) -> None:
        """Only a release key is trusted: take the other keys from what it signed."""
        with self.transcript.step("vouched keys") as seen:
            data = self.vouched_contents().get(layout.TRUST_POLICY)
            if data is None:
                raise Fault("MISSING", f"{layout.TRUST_POLICY} is not there as the summary names it")
            try:
                vouched = TrustRoot.from_policy(data)
            except InvalidInput as error:
                raise Fault("SUMMARY", str(error)[:500]) from error
            self.trust = self.trust.vouching(vouched)
            seen.detail = f"build, audit and log keys as {summary.verifier.id} names them"
            self.transcript.note(
                "Only the release key was given. It vouches for the keys that built, measured and logged; whether "
                "the log shows the same to everybody can be checked with a trust policy from another source only."
            )

    def _place(self, attested: Attested) -> None:
        """When it was signed: the place in the log, the window of the key, the timestamp."""
        log, require, name = self.trust.log, self.trust.require, attested.name
        index = None
        if log is None:
            self.transcript.note("No log was trusted: nothing is known of when this was signed.")
        elif attested.bundle.entries or require.tlog:
            with self.transcript.step(f"log {name}") as seen:
                index = check_logged(attested, log).index
                seen.detail = f"entry {index} of {log.origin}"
        else:
            self.transcript.note(f"{name} is in no log.")
        with self.transcript.step(f"key window {name}") as seen:
            check_window(attested, index)
            seen.detail = f"the {attested.key.role} key counts here"
        if require.timestamp:
            with self.transcript.step(f"timestamp {name}") as seen:
                time = check_timestamp(attested.bundle, self.trust.timestamp_authorities)
                seen.detail = time.isoformat()
        elif attested.bundle.timestamps:
            self.transcript.note("Timestamps were not checked: the trust root does not ask for them.")

    def _one_log(self) -> None:
        """All proofs are from one history: one root for each size."""
        trees = {(entry.size, entry.root) for bundle in self.bundles.values() for entry in bundle.entries}
        if len({size for size, _ in trees}) != len(trees):
            fault = Fault("LOG_FORK", "two checkpoints of one size have different roots: the log has two histories")
            self.transcript.failed("log", [fault])


def release_of(summary: Summary, files: Folder, beside: Folder) -> Release:
    """The release record that a summary and these folders make."""
    release = summary.release
    return Release(
        model=release.model,
        version=release.version,
        candidate=release.candidate,
        decision=release.decision,
        approvals=tuple(consent.record for consent in release.approvals),
        files=files.files,
        attestations=tuple(file for file in beside.files if file.name.endswith(layout.SUFFIX)),
        at=release.sealed,
    )
