"""What may be sealed: a candidate with its decision, evidence and approvals, all about each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from auditsvc import __version__
from auditsvc.errors import InvalidInput, NotApproved
from auditsvc.provenance.oms import bare
from auditsvc.provenance.statements import VERIFIER_ID, policy_uri, resource_uri
from auditsvc.provenance.summary import Consent, DigestSet, Named, PolicyRef, ReleaseField, Summary, Taken, Verifier
from auditsvc.records import Approval, Candidate, Decision, Digest, Evidence, Moment, Parent, Policy, Waiver
from auditsvc.records.decision import missing_consent

MAX_FILES = 1000
"""Statements name every file, and common verifiers read at most 1024 subjects."""


@dataclass(frozen=True)
class Sealing:
    """All that a release is made of."""

    model: str
    version: str
    candidate: Candidate
    parent: Parent
    policy: Policy
    decision: Decision
    evidence: tuple[Evidence, ...]
    approvals: tuple[Approval, ...]
    waivers: tuple[Waiver, ...]
    submitter: str

    def check(self, at: Moment) -> None:
        """Everything belongs together, and two people stand behind it.

        Raises:
            NotApproved: no approved decision on this candidate under this policy, too few approvals, an
                approval by the submitter or of another decision, or a waiver that has run out.
            InvalidInput: evidence, waivers or a parent that the decision does not rest on.
        """
        missing = (*self._unbound(), *self._missing(at))
        if missing:
            raise NotApproved(f"{self.model} version {self.version} is not approved: {'; '.join(missing)}")
        self._check_fit(())

    def check_refused(self) -> None:
        """Everything belongs together, and the decision is against a release.

        Raises:
            InvalidInput: records that do not fit together, or an approved decision.
        """
        self._check_fit(self._unbound())
        if self.decision.outcome == "approved":
            raise InvalidInput(f"the decision on {self.model} version {self.version} is approved; seal it instead")

    def _check_fit(self, more: Iterable[str]) -> None:
        strangers = (*more, *self._strangers())
        if strangers:
            raise InvalidInput(f"{self.model} version {self.version}: the records do not fit together", strangers)

    def _unbound(self) -> Iterator[str]:
        if self.decision.candidate != self.candidate.digest:
            yield "the decision is about another candidate"
        if self.decision.policy != self.policy.digest:
            yield "the decision was made under another policy"

    def _strangers(self) -> Iterator[str]:
        if not 0 < len(self.candidate.files) <= MAX_FILES:
            yield f"a release has 1 to {MAX_FILES} files, not {len(self.candidate.files)}"
        if self.candidate.model != self.model:
            yield f"the candidate is of the model {self.candidate.model}"
        if self.candidate.parent != self.parent.digest:
            yield "the parent is not the one that the candidate names"
        if {item.digest for item in self.evidence} != set(self.decision.evidence):
            yield "the evidence is not the one that the decision rests on"
        if any(item.key.candidate != self.candidate.digest for item in self.evidence):
            yield "some evidence is about another candidate"
        if {waiver.digest for waiver in self.waivers} != set(self.decision.waivers):
            yield "the waivers are not those that the decision used"

    def _missing(self, at: Moment) -> Iterator[str]:
        decision = self.decision
        if decision.outcome != "approved":
            yield f"the decision is {decision.outcome}"
        valid = [approval for approval in self.approvals if approval.decision == decision.digest]
        if len(valid) != len(self.approvals) or any(a.candidate != decision.candidate for a in valid):
            yield "an approval is of another decision"
        people = {approval.approver.casefold() for approval in valid}
        if self.submitter.casefold() in people:
            yield f"{self.submitter} submitted it and cannot approve it"
        yield from missing_consent(self.policy, people)
        for waiver in self.waivers:
            if waiver.until < at.date():
                yield f"the waiver of {waiver.rule} by {waiver.person} ran out on {waiver.until}"

    def summary(self, inputs: Mapping[str, Digest], beside: Mapping[str, Digest], sealed: Moment) -> Summary:
        """The verification summary; ``inputs`` are payload digests, ``beside`` digests of files in ``attest``."""
        passed = self.decision.outcome == "approved"
        return Summary(
            verifier=Verifier(id=VERIFIER_ID, version={"auditsvc": __version__}),
            time_verified=self.decision.at,
            resource_uri=resource_uri(self.model, self.version),
            policy=PolicyRef(uri=policy_uri(self.policy), digest=DigestSet(sha256=bare(self.policy.digest))),
            inputs=_named(inputs),
            result="PASSED" if passed else "FAILED",
            levels=("SLSA_BUILD_LEVEL_1", *_levels(self.evidence)) if passed else ("FAILED",),
            release=ReleaseField(
                model=self.model,
                version=self.version,
                candidate=self.candidate.digest,
                decision=self.decision.digest,
                submitter=self.submitter,
                approvals=tuple(
                    Consent(approver=item.approver, record=item.digest, at=item.at) for item in self.approvals
                ),
                approvals_needed=str(self.policy.approvals),
                waivers=tuple(
                    Taken(rule=w.rule, person=w.person, record=w.digest, reason=w.reason, until=w.until)
                    for w in self.waivers
                ),
                sealed=sealed,
                beside=_named(beside),
            ),
        )


def _named(digests: Mapping[str, Digest]) -> tuple[Named, ...]:
    return tuple(Named(name=name, digest=DigestSet(sha256=bare(digests[name]))) for name in sorted(digests))


def _levels(evidence: tuple[Evidence, ...]) -> tuple[str, ...]:
    checks = sorted({item.key.check for item in evidence})
    return tuple(f"AUDITSVC_{check.upper().replace('-', '_')}_JUDGED" for check in checks)
