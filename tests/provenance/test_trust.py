"""Trust is published, read and handed over under TUF; python-tuf reads the same files."""

from __future__ import annotations

import datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.provenance import TrustRoot, publish_trust
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.trust.trust_root import RevocationList
from auditsvc.provenance.trust.tuf_repository import ROLES, TrustRepository, TufRoles, publish, rotate, tuf_json
from tests.provenance.cases_trust import published, read, revocation, tuf_roles
from tests.provenance.forge import Forge
from tests.provenance.sample import AT


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def test_a_fresh_repository_is_enough_to_find_a_release_valid(forge: Forge) -> None:
    found = forge.verify(read(forge, published(forge)), resource="pkg:mlflow/faces@3")
    assert (found.verdict, found.reasons) == ("VALID", ())
    assert any(step.step == "revocations" and step.ok for step in found.steps)


def test_every_publication_is_a_new_version(forge: Forge) -> None:
    pem = forge.keys.signer("release").public_pem
    versions = [TrustRepository.read(published(forge), pem, AT).versions.timestamp for _ in range(3)]
    assert versions == [1, 2, 3]


def test_a_root_key_is_handed_over_by_the_old_one(forge: Forge) -> None:
    folder = published(forge)
    heir = FileKeys(forge.folder / "heir").signer("release")
    rotate(folder, tuf_roles(forge), TufRoles.all_by(heir), AT)
    targets = {"trust-policy.json": forge.trust.to_json(), "revocations.json": RevocationList(issued=AT).to_json()}
    publish(folder, targets, TufRoles.all_by(heir), AT)
    found = TrustRepository.read(folder, forge.keys.signer("release").public_pem, AT)
    assert (found.faults, found.versions.root, set(found.targets)) == ((), 2, set(targets))
    assert forge.verify(read(forge, folder)).verdict == "VALID"


def test_the_root_is_renewed_before_its_end_and_at_the_end_once(forge: Forge) -> None:
    folder, pinned = published(forge), forge.keys.signer("release").public_pem
    targets, roles = {"trust-policy.json": forge.trust.to_json()}, tuf_roles(forge)
    roots = []
    for days in (0, 100, 200, 300, 320, 700, 701, 1500):  # from 700 on it had ended
        at = AT + datetime.timedelta(days=days)
        publish(folder, targets, roles, at)
        found = TrustRepository.read(folder, pinned, at)
        assert found.faults == ()
        roots.append(found.versions.root)
    assert roots == [1, 1, 1, 2, 2, 3, 3, 4]


def test_a_publication_that_nobody_could_use_fails(forge: Forge) -> None:
    folder = published(forge)
    stranger = TufRoles.all_by(FileKeys(forge.folder / "stranger").signer("release"))
    for days in (0, 400):
        with pytest.raises((Unavailable, Fault)):
            publish(folder, {"x": b""}, stranger, AT + datetime.timedelta(days=days))


def test_a_pinned_root_file_is_trusted_like_the_key_that_signed_it(forge: Forge) -> None:
    folder = published(forge)
    pinned = (folder / "metadata" / "1.root.json").read_bytes()
    assert forge.verify(TrustRoot.from_repository(folder, pinned, AT)).verdict == "VALID"


def test_a_trust_policy_reads_back_as_it_was_written(forge: Forge) -> None:
    assert TrustRoot.from_policy(forge.trust.to_json()) == forge.trust


@pytest.mark.parametrize(
    "data",
    [b"{}", b"[]", b"", b'{"keys":[]}', b'{"keys":[],"x":1}', b'{"keys":[],"trouble":[]}', b'{"keys":1,"keys":2}'],
)
def test_what_is_no_trust_policy_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="trust policy"):
        TrustRoot.from_policy(data)


def test_a_key_under_another_hint_is_refused(forge: Forge) -> None:
    with pytest.raises(InvalidInput, match="can't be used"):
        TrustRoot.from_policy(forge.swap_key("audit", hint="0" * 64).to_json())


def test_only_a_p256_key_is_a_release_key(forge: Forge, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"release\.pub"):
        TrustRoot.from_pem(forge.keys.signer("log").public_pem)
    with pytest.raises(InvalidInput, match=r"release\.pub"):
        TrustRoot.from_pem((tmp_path / "keys" / "release.key").read_bytes())
    with pytest.raises(NotFound, match=r"release\.pub"):
        TrustRoot.load(tmp_path / "nothing")


def test_python_tuf_reads_the_repository_and_finds_it_stale_in_time(forge: Forge, tmp_path: Path) -> None:
    client = pytest.importorskip("tuf.ngclient", reason="pip install tuf")
    errors = pytest.importorskip("tuf.api.exceptions")

    class Files(client.FetcherInterface):
        def _fetch(self, url: str):
            path = Path(unquote(urlparse(url).path))
            if not path.exists():
                raise errors.DownloadHTTPError("not there", 404)
            yield path.read_bytes()

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    folder = published(forge, at=now)
    heir = FileKeys(forge.folder / "heir").signer("release")
    rotate(folder, tuf_roles(forge), TufRoles.all_by(heir), now)
    targets = {"trust-policy.json": forge.trust.to_json(), "revocations.json": RevocationList(issued=now).to_json()}
    publish(folder, targets, TufRoles.all_by(heir), now)

    def updater(name: str):
        (tmp_path / name).mkdir()
        return client.Updater(
            metadata_dir=str(tmp_path / name),
            metadata_base_url=f"file://{folder}/metadata/",
            target_dir=str(tmp_path / name),
            target_base_url=f"file://{folder}/targets/",
            fetcher=Files(),
            bootstrap=(folder / "metadata" / "1.root.json").read_bytes(),
        )

    reader = updater("fresh")
    reader.refresh()
    for name, data in targets.items():
        path = reader.download_target(reader.get_targetinfo(name))
        assert Path(path).read_bytes() == data
    publish(folder, targets, TufRoles.all_by(heir), now - datetime.timedelta(hours=30))
    with pytest.raises(errors.ExpiredMetadataError):
        updater("stale").refresh()


def test_tuf_json_escapes_only_quotes_and_backslashes() -> None:
    assert (
        tuf_json({"b": ["\n", 'x"y\\'], "a": {"n": 1, "t": True}}) == b'{"a":{"n":1,"t":true},"b":["\n","x\\"y\\\\"]}'
    )


def test_one_key_may_hold_all_offices_and_the_thresholds_are_one(forge: Forge) -> None:
    assert set(tuf_roles(forge).signers) == set(ROLES)
    assert set(tuf_roles(forge).thresholds.values()) == {1}


def test_a_recall_that_is_published_reaches_a_reader_who_comes_back(forge: Forge) -> None:
    folder, pem = forge.folder / "public", forge.keys.signer("release").public_pem
    publish_trust(folder, [], keys=forge.keys, at=AT)
    assert forge.verify(TrustRoot.from_repository(folder, pem, AT)).verdict == "VALID"
    publish_trust(folder, [(revocation(forge), forge.sealed)], keys=forge.keys, at=AT)
    found = forge.verify(TrustRoot.from_repository(folder, pem, AT))
    assert found.verdict == "REVOKED"
    assert {step.detail for step in found.reasons} == {"revoked at 2026-11-22T13:00:00+00:00: fails at night"}


def test_no_person_is_named_in_what_is_published(forge: Forge) -> None:
    publish_trust(forge.folder / "public", [(revocation(forge), forge.sealed)], keys=forge.keys, at=AT)
    published_bytes = b"".join(path.read_bytes() for path in (forge.folder / "public").rglob("*") if path.is_file())
    assert not any(name in published_bytes for name in (b'"ada"', b'"ben"', b'"sam"'))
