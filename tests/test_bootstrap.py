"""What the settings name is what is used; an installation that lost its log does not start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from auditsvc.adapters.blobs import ObjectBlobs
from auditsvc.adapters.file_keys import FileKeys
from auditsvc.bootstrap import open_keys, open_ledger, open_signing_services
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.services.signing_context import checkpoint_store_of, trust_of
from auditsvc.settings import Settings
from auditsvc.web.app import open_site
from tests.fakes.log import MemoryLog

URI = "pkcs11:token=t;object=o?module-path=/x.so&pin-source=/p"


def test_keys_elsewhere_are_used_and_none_is_made_for_their_roles(tmp_path: Path) -> None:
    other = FileKeys(tmp_path / "other")
    wanted = other.signer("build").public_pem
    place = f"file:{tmp_path / 'other' / 'build.key'}"
    keys = open_keys(Settings(store=tmp_path / "store", build_key=place))
    assert keys.signer("build").public_pem == wanted
    assert keys.signer("release").public_pem != other.signer("release").public_pem
    assert not (tmp_path / "store" / "keys" / "build.key").exists()
    assert (tmp_path / "store" / "keys" / "build.pub").read_bytes() == wanted


def test_a_key_in_a_device_is_not_asked_for_until_it_is_needed(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path, release_key=URI)
    assert settings.key_places == {"release": URI}
    assert URI not in repr(settings)
    open_keys(settings)


@pytest.mark.parametrize(("role", "uri"), [("release", "vault:x"), ("log", URI), ("log", "awskms:1")])
def test_a_place_of_a_key_that_cannot_be_is_refused(tmp_path: Path, role: str, uri: str) -> None:
    with pytest.raises(InvalidInput, match=f"AUDITSVC_{role.upper()}_KEY"):
        open_keys(Settings(store=tmp_path, **{f"{role}_key": uri}))


def test_nobody_stands_behind_a_seal_unless_he_is_named(tmp_path: Path) -> None:
    assert open_signing_services(Settings(store=tmp_path), MemoryLog()) == {"checkpoint": None}
    with pytest.raises(InvalidInput, match="certificates"):
        open_signing_services(Settings(store=tmp_path, tsa_url="http://tsa.example"), MemoryLog())
    with pytest.raises(InvalidInput, match="witnesses"):
        open_signing_services(Settings(store=tmp_path, witnesses=str(tmp_path / "none")), MemoryLog())


def test_an_installation_whose_database_is_an_old_backup_does_not_start(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "store", checkpoint=str(tmp_path / "other-disk" / "checkpoint"), watch_s=0)
    site = open_site(settings, "127.0.0.1")
    site.close()
    shutil.copytree(settings.store, tmp_path / "backup")
    site = open_site(settings, "127.0.0.1")
    site.ledger.append_leaf(b"something happened")
    checkpoint_store_of(site.ctx).current()
    assert trust_of(site.ctx).log is not None
    site.close()
    shutil.rmtree(settings.store)
    shutil.copytree(tmp_path / "backup", settings.store)
    with pytest.raises(Conflict, match="LOG_FORK_GUARD"):
        open_site(settings, "127.0.0.1")
    assert open_ledger(settings).size() == 0  # what only reads still reads


def test_the_service_reads_files_where_the_workers_put_them(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "store", blobs_url="s3://bucket/place", watch_s=0)
    site = open_site(settings, "127.0.0.1")
    assert isinstance(site.ctx.blobs, ObjectBlobs)
    site.close()
