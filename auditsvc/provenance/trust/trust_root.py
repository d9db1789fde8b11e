"""The trust root: which keys a verifier trusts, each for one role and its statement types.

A trust root reaches the verifier from another source than the release.  It is a release public key alone, or a trust
policy that lists every key with its role and its validity in the log.  The index in the log is the clock, because a
claimed date proves nothing: a retired key counts for what was logged before its retirement, a compromised key for
nothing from the index on at which the compromise may have begun, a successor for nothing that was logged before it.

``trusted_root`` gives the log and the authorities to Sigstore's own clients (sigstore, 2024, protobuf-specs,
"sigstore_trustroot.proto").
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.ports import Keys
from auditsvc.provenance.formats.dsse import check_p256, ed25519_der, hint_of, plain_pem
from auditsvc.provenance.formats.manifest import OMS_TYPE
from auditsvc.provenance.formats.predicates import (
    BOM_TYPE,
    BUILDER_ID_0_1,
    PROVENANCE_TYPE,
    TEST_TYPE,
    VERIFIER_ID_0_1,
    VSA_TYPE,
    identity_of,
)
from auditsvc.provenance.formats.release_layout import REVOCATIONS, TRUST_POLICY
from auditsvc.provenance.formats.signed_note import NoteKey
from auditsvc.provenance.formats.strict_json import Fault, base64_of, parse_json
from auditsvc.provenance.trust.tuf_repository import TrustRepository, TufRoles, Versions, publish
from auditsvc.records import Digest, Moment, Release, Retirement, Revocation, Text, canonical_json, faults_of
from auditsvc.records.base import Value

StatementRole = Literal["build", "audit", "release"]

ALLOWED: dict[StatementRole, tuple[str, ...]] = {
    "build": (PROVENANCE_TYPE,),
    "audit": (TEST_TYPE, BOM_TYPE),
    "release": (OMS_TYPE, VSA_TYPE),
}
"""What each role may sign."""

_IDENTITIES: dict[StatementRole, tuple[str, str]] = {
    "build": ("builder", BUILDER_ID_0_1),
    "release": ("verifier", VERIFIER_ID_0_1),
}


def ids_of(role: StatementRole, hint: str) -> tuple[str, ...]:
    """The ids that a key of this role may use: its own, and the one that every installation of version 0.1 used."""
    if role not in _IDENTITIES:
        return ()
    name, old = _IDENTITIES[role]
    return identity_of(name, hint), old


class _Part(Value):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class TrustedKey(_Part):
    """One public key: the types it may sign, the identities it may use, and its validity in the log."""

    hint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    alg: str = "ecdsa-p256-sha256"
    role: StatementRole
    pem: str
    predicate_types: tuple[str, ...]
    ids: tuple[str, ...] = ()
    from_log_index: Annotated[int, Field(ge=0)] = 0
    not_after_log_index: Annotated[int, Field(ge=0)] | None = None
    compromised_since: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def of(cls, role: StatementRole, pem: bytes) -> TrustedKey:
        """A key of this role, trusted from the beginning of the log and without end."""
        hint = hint_of(pem)
        return cls(hint=hint, role=role, pem=pem.decode(), predicate_types=ALLOWED[role], ids=ids_of(role, hint))


class TrustedLog(_Part):
    """The log whose checkpoints count, and how many of which witnesses must have seen them."""

    origin: str
    vkey: str
    quorum: Annotated[int, Field(ge=0)] = 0
    witnesses: tuple[str, ...] = ()


class TrustProblem(_Part):
    """Why less is known than should be: old, missing or withdrawn metadata."""

    code: Literal["STALE_TRUST", "TRUST_ROLLBACK"]
    detail: str


class Requirements(_Part):
    """Requirements on a release beyond signatures."""

    tlog: bool = True
    timestamp: bool = False
    suites: tuple[str, ...] = ()
    policies: tuple[Digest, ...] = ()
    parents: tuple[Digest, ...] = ()
    datasets: tuple[Digest, ...] = ()
    min_images: Annotated[int, Field(ge=0)] = 0
    max_metadata_age_hours: Annotated[int, Field(ge=1)] | None = None


class TrustRoot(_Part):
    """All that a reader trusts."""

    version: Annotated[int, Field(ge=1)] = 1
    keys: tuple[TrustedKey, ...]
    log: TrustedLog | None = None
    require: Requirements = Requirements()
    timestamp_authorities: tuple[str, ...] = ()
    """Certificate chains in PEM of those whose timestamps count."""
    revocations: Annotated[RevocationList | None, Field(exclude=True)] = None
    """The revocation list; None where none is known."""
    problems: Annotated[tuple[TrustProblem, ...], Field(exclude=True)] = ()

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustRoot:
        """Trust in one release key and nothing else.

        Raises:
            InvalidInput: no ECDSA P-256 public key.
        """
        try:
            text = plain_pem(pem)
            check_p256(text, b"", b"")
        except Fault as fault:
            if fault.step_code == "KEY_TYPE":
                raise InvalidInput(f"not a release key: {fault.detail}; give the file release.pub") from fault
        return cls(keys=(TrustedKey.of("release", text),), require=Requirements(tlog=False))

    @classmethod
    def from_policy(cls, data: bytes) -> TrustRoot:
        """Trust as a trust policy (JSON) says.

        Raises:
            InvalidInput: not a trust policy; lists every fault.
        """
        try:
            root = cls.model_validate(parse_json(data))
        except Fault as fault:
            raise InvalidInput(f"not a trust policy: {fault}") from fault
        except ValidationError as error:
            raise InvalidInput("not a trust policy", faults_of(error)) from error
        hints = [key.hint for key in root.keys]
        wrong = [f"{key.hint} is not the hint of its key" for key in root.keys if hint_of(key.pem.encode()) != key.hint]
        wrong += [f"{hint} is listed twice" for hint in sorted({h for h in hints if hints.count(h) > 1})]
        wrong += ["no key is trusted"] * (not hints)
        wrong += ["revocations and problems come from a repository, not from a policy"] * bool(
            root.revocations or root.problems
        )
        if wrong:
            raise InvalidInput("the trust policy can't be used", wrong)
        return root

    @classmethod
    def from_repository(cls, folder: Path, pinned: bytes, at: Moment, seen: Versions | None = None) -> TrustRoot:
        """Trust and revocations from a published TUF repository, authenticated by the pinned key.

        ``pinned`` is the first root metadata, or the release public key that signs it.  A repository that is
        old, incomplete or not signed gives a trust in which nothing is ``VALID``; it is no error.

        Raises:
            InvalidInput: a signed target that is not a trust policy or a revocation list.
            Unavailable: the disk can't be read.
        """
        found = TrustRepository.read(folder, pinned, at, seen)
        problems = tuple(TrustProblem.model_validate({"code": f.step_code, "detail": f.detail}) for f in found.faults)
        if TRUST_POLICY not in found.targets or REVOCATIONS not in found.targets:
            missing = TrustProblem(
                code="STALE_TRUST", detail="the repository lacks a trust policy or a revocation list"
            )
            return cls(keys=(), problems=problems or (missing,))
        revocations = RevocationList.parse(found.targets[REVOCATIONS])
        policy = cls.from_policy(found.targets[TRUST_POLICY])
        return policy.model_copy(update={"revocations": revocations, "problems": problems})

    def with_revocations(self, revocations: RevocationList) -> TrustRoot:
        """The same trust, with this revocation list."""
        return self.model_copy(update={"revocations": revocations})

    @classmethod
    def load(cls, path: Path) -> TrustRoot:
        """Read a trust root from a file: a public key in PEM, or a trust policy.

        Raises:
            InvalidInput: it is neither.
            NotFound: there is no such file.
            Unavailable: it can't be read.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"no trust root at {path}; give release.pub or trust-policy.json") from error
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        return cls.from_pem(data) if data.lstrip().startswith(b"-----BEGIN") else cls.from_policy(data)

    @classmethod
    def of_keys(cls, keys: Keys) -> TrustRoot:
        """Trust in the keys of an installation."""
        roles: tuple[StatementRole, ...] = ("build", "audit", "release")
        log = NoteKey.of_pem(log_origin(keys), keys.signer("log").public_pem)
        return cls(
            keys=tuple(TrustedKey.of(role, keys.signer(role).public_pem) for role in roles),
            log=TrustedLog(origin=log.name, vkey=log.vkey),
        )

    def with_witnesses(self, witnesses: tuple[str, ...], quorum: int, authorities: tuple[str, ...]) -> TrustRoot:
        """The same trust, with witnesses of the log and time stamping authorities.

        Every checkpoint needs ``quorum`` witnesses then, also that of an older release.  Whether a time stamp is
        required is left to the reader (``require.timestamp``).

        Raises:
            InvalidInput: witnesses, but no log.
        """
        if self.log is None and witnesses:
            raise InvalidInput("witnesses cosign a log, and this trust names none")
        log = self.log and self.log.model_copy(update={"witnesses": witnesses, "quorum": quorum})
        return self.model_copy(update={"log": log, "timestamp_authorities": authorities})

    def requiring(self, *, policies: Iterable[str], datasets: Iterable[str], min_images: int) -> TrustRoot:
        """The same trust, with these requirements on top of its own: a policy or data set must be accepted by both.

        Raises:
            InvalidInput: not a digest, or nothing that this trust accepts too.
        """
        asked = {"policies": tuple(policies), "datasets": tuple(datasets)}
        own = {"policies": self.require.policies, "datasets": self.require.datasets}
        both = {name: tuple(one for one in asked[name] if not own[name] or one in own[name]) for name in asked}
        for name, given in asked.items():
            wrong = [one for one in given if not re.fullmatch(r"sha256:[0-9a-f]{64}", one)]
            if wrong:
                raise InvalidInput(f"{name}: give digests (sha256: and 64 hexadecimal digits), not {wrong[0]!r}")
            if given and not both[name]:
                raise InvalidInput(f"{name}: the trust policy accepts none of {', '.join(given)}")
        changes = {name: both[name] or own[name] for name in asked}
        least = max(min_images, self.require.min_images)
        return self.model_copy(update={"require": self.require.model_copy(update={**changes, "min_images": least})})

    def to_json(self) -> bytes:
        """The trust policy file, in canonical JSON."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def key(self, hint: str) -> TrustedKey | None:
        """The key with this hint, if it is trusted."""
        return next((key for key in self.keys if key.hint == hint), None)

    def with_vouched_keys(self, vouched: TrustRoot) -> TrustRoot:
        """This trust, with the build, audit and log keys that its release key vouches for."""
        others = tuple(key for key in vouched.keys if key.role != "release" and not self.key(key.hint))
        require = self.require.model_copy(update={"tlog": vouched.require.tlog})
        return self.model_copy(update={"keys": (*self.keys, *others), "log": vouched.log, "require": require})


def log_origin(keys: Keys) -> str:
    """The name of this installation's log: unique, because it is made of the log's key."""
    return f"log-{hint_of(keys.signer('log').public_pem)[:16]}.auditsvc.internal"


def with_retired(trust: TrustRoot, retirements: Iterable[Retirement]) -> TrustRoot:
    """The same trust, with retired keys in their windows, and each current key from the last retirement of its role on.

    A key that is retired and still in use counts as retired: nothing that it signs now verifies.
    """
    ended: dict[str, TrustedKey] = {}
    begin: dict[str, int] = {}
    for one in retirements:
        before = ended.get(one.pem) or TrustedKey.of(one.role, one.pem.encode())
        ended[one.pem] = _ended(before, one, begin.get(one.role, 0))
        begin[one.role] = max(begin.get(one.role, 0), one.log_size)
    current = (
        key.model_copy(update={"from_log_index": begin.get(key.role, 0)}) for key in trust.keys if key.pem not in ended
    )
    return trust.model_copy(update={"keys": (*current, *ended.values())})


def _ended(key: TrustedKey, one: Retirement, begin: int) -> TrustedKey:
    known = [index for index in (key.compromised_since, one.compromised_since) if index is not None]
    if one.log_size == 0:
        known.append(0)  # it was retired before anything was logged: nothing of it counts
    if key.not_after_log_index is None:
        key = key.model_copy(update={"from_log_index": begin, "not_after_log_index": max(one.log_size - 1, begin)})
    return key.model_copy(update={"compromised_since": min(known) if known else None})


def publish_trust(
    folder: Path,
    revoked: Iterable[tuple[Revocation, Release]],
    *,
    keys: Keys,
    at: Moment,
    trust: TrustRoot | None = None,
) -> RevocationList:
    """Publish the next version of the trust repository (TUF) in ``folder``, with all revocations so far.

    Readers give ``TrustRoot.from_repository`` that folder, or a copy of it, and the release key.  It must be
    published again at least once a day, or readers find it stale and say ``UNKNOWN``.  ``trust`` is the policy
    where keys were retired or compromised; the release key signs the metadata.

    Raises:
        Unavailable: the disk or the keys failed; readers see the version before.
    """
    found = (revoked for revocation, release in revoked for revoked in revoked_digests(revocation, release))
    revocations = RevocationList(
        issued=at, revocations=tuple(sorted(found, key=lambda revoked: (revoked.at, revoked.subject)))
    )
    policy = trust or TrustRoot.of_keys(keys)
    targets = {TRUST_POLICY: policy.to_json(), REVOCATIONS: revocations.to_json()}
    publish(folder, targets, TufRoles.all_by(keys.signer("release")), at)
    return revocations


_ALWAYS = {"start": "1970-01-01T00:00:00Z"}


def trusted_root(trust: TrustRoot) -> bytes:
    """The file, in JSON; keys of statements are not part of it, clients are given those by hand.

    Raises:
        InvalidInput: the trust names no log.
    """
    if trust.log is None:
        raise InvalidInput("a trusted root for Sigstore needs a log; give a trust policy, not a release key alone")
    key = NoteKey.parse(trust.log.vkey)
    log = {
        "baseUrl": f"https://{trust.log.origin}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64_of(ed25519_der(key.raw)),
            "keyDetails": "PKIX_ED25519",
            "validFor": _ALWAYS,
        },
        "logId": {"keyId": base64_of(key.full_id)},
    }
    return canonical_json(
        {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log],
            "certificateAuthorities": [],
            "ctlogs": [],
            "timestampAuthorities": [_authority(chain) for chain in trust.timestamp_authorities],
        }
    )


def _authority(chain: str) -> dict[str, Any]:
    blocks = [block.partition("-----END")[0] for block in chain.split("-----BEGIN CERTIFICATE-----")[1:]]
    certificates = [{"rawBytes": base64_of(base64.b64decode(block))} for block in blocks]
    return {"subject": {}, "certChain": {"certificates": certificates}, "validFor": _ALWAYS}


class RevokedDigest(Value):
    """One digest that must no longer be used, since when, and why."""

    subject: Digest
    reason: Text
    at: Moment


class RevocationList(Value):
    """All revocations as of ``issued``."""

    issued: Moment
    revocations: Annotated[
        tuple[RevokedDigest, ...], Field(validation_alias=AliasChoices("revocations", "recalls"))
    ] = ()
    """Version 0.1 wrote the list under the name ``recalls``."""

    def about(self, subjects: Iterable[str]) -> tuple[RevokedDigest, ...]:
        """The entries about any of these digests."""
        wanted = set(subjects)
        return tuple(revoked for revoked in self.revocations if revoked.subject in wanted)

    def to_json(self) -> bytes:
        """The file ``revocations.json``, in canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read ``revocations.json``.

        Raises:
            InvalidInput: it is not a revocation list.
        """
        try:
            return cls.model_validate(parse_json(data))
        except Fault as fault:
            raise InvalidInput(f"not a list of revocations: {fault}") from fault
        except ValidationError as error:
            raise InvalidInput("not a list of revocations", faults_of(error)) from error


def revoked_digests(revocation: Revocation, release: Release) -> tuple[RevokedDigest, ...]:
    """The entries for a revoked release: the release itself and its decision.

    The decision is listed too, because a release whose log proofs were renewed has another digest and the same
    decision.
    """
    return tuple(
        RevokedDigest(subject=subject, reason=revocation.reason, at=revocation.at)
        for subject in (release.digest, release.decision)
    )
