"""One composition root: the settings decide the ports for every caller; a store that lost its log stays closed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import auditsvc
from auditsvc.adapters.file_keys import FileKeys
from auditsvc.bootstrap import LazyPort, open_context, open_job_context
from auditsvc.cli.output import context_for
from auditsvc.errors import Conflict, InvalidInput, Unavailable
from auditsvc.ports import Context
from auditsvc.services.signing_context import checkpoint_store_of, trust_of
from auditsvc.settings import Settings
from auditsvc.web.app import open_site
from tests.web import sample

URI = "pkcs11:token=t;object=o?module-path=/x.so&pin-source=/p"
ROOT = Path(auditsvc.__file__).parent


def a_context(store: Path, **settings: object) -> Context:
    return open_context(Settings(store=store, **settings), create=True)  # type: ignore[arg-type]


def test_a_context_is_constructed_in_one_file_only() -> None:
    constructing = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Context"
    }
    assert constructing == {"bootstrap.py"}


def test_a_port_is_opened_once_and_on_its_first_use() -> None:
    opened: list[Path] = []

    def opener() -> Path:
        opened.append(Path("here"))
        return opened[-1]

    port = LazyPort(opener)
    assert opened == []
    assert (port.name, port.suffix, len(opened)) == ("here", "", 1)


def test_a_port_that_can_not_be_opened_is_tried_again() -> None:
    answers = iter([Unavailable("not there yet"), Path("here")])

    def opener() -> Path:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    port = LazyPort(opener)
    with pytest.raises(Unavailable):
        _ = port.name
    assert port.name == "here"


def test_opening_a_store_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom auditsvc.bootstrap import open_context\n"
        "from auditsvc.settings import Settings\n"
        f"open_context(Settings(store=Path({str(tmp_path)!r})), create=True).ledger.size()\n"
        "print(sorted({'torch', 'mlflow', 'dbos'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


def test_a_store_that_is_not_there_is_only_made_where_something_is_written(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "store")
    with pytest.raises(Unavailable, match="there is no store"):
        open_context(settings)
    assert not settings.store.exists()
    open_context(settings, create=True)
    assert open_context(settings).ledger.size() == 0


def test_commands_use_the_main_project_s_database_and_never_a_file_named_after_the_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITSVC_PROJECTS", "plates")
    monkeypatch.setenv("AUDITSVC_LEDGER_URL", f"sqlite:///{tmp_path}/{{project}}.db")
    site = open_site(Settings(store=tmp_path / "store"), "127.0.0.1")
    sample.fill(site.ledger)
    assert context_for(tmp_path / "store").ledger.size() == site.ledger.size() > 0
    assert open_job_context(Settings(store=tmp_path / "store")).ctx.ledger.size() == site.ledger.size()
    site.of("plates")
    monkeypatch.setenv("AUDITSVC_PROJECT", "plates")
    plates = context_for(tmp_path / "store")
    assert (plates.ledger.size(), plates.folder) == (0, tmp_path / "store" / "projects" / "plates")
    site.close()
    assert {path.name for path in tmp_path.glob("*.db")} == {"main.db", "plates.db"}
    monkeypatch.setenv("AUDITSVC_PROJECT", "platse")
    with pytest.raises(InvalidInput, match="no project 'platse'"):
        context_for(tmp_path / "store")


def test_keys_elsewhere_are_used_and_none_is_made_for_their_roles(tmp_path: Path) -> None:
    other = FileKeys(tmp_path / "other")
    wanted = other.signer("build").public_pem
    keys = a_context(tmp_path / "store", build_key=f"file:{tmp_path / 'other' / 'build.key'}").keys
    assert keys.signer("build").public_pem == wanted
    assert keys.signer("release").public_pem != other.signer("release").public_pem
    assert not (tmp_path / "store" / "keys" / "build.key").exists()
    assert (tmp_path / "store" / "keys" / "build.pub").read_bytes() == wanted


def test_a_key_in_a_device_is_not_asked_for_until_it_is_needed(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path, release_key=URI)
    assert settings.key_uris == {"release": URI}
    assert URI not in repr(settings)
    open_context(settings, create=True)


@pytest.mark.parametrize(("role", "uri"), [("release", "vault:x"), ("log", URI), ("log", "awskms:1")])
def test_a_place_of_a_key_that_cannot_be_is_refused(tmp_path: Path, role: str, uri: str) -> None:
    with pytest.raises(InvalidInput, match=f"AUDITSVC_{role.upper()}_KEY"):
        a_context(tmp_path, **{f"{role}_key": uri})


def test_timestamps_and_witnesses_are_there_where_the_settings_name_them(tmp_path: Path) -> None:
    ctx = a_context(tmp_path)
    assert (ctx.timestamps, ctx.witnesses, ctx.references, ctx.device) == (None, None, None, "cpu")
    with pytest.raises(InvalidInput, match="certificates"):
        a_context(tmp_path, tsa_url="http://tsa.example")
    with pytest.raises(InvalidInput, match="witnesses"):
        a_context(tmp_path, witnesses_file=tmp_path / "none")


def test_an_installation_whose_database_is_an_old_backup_does_not_start(tmp_path: Path) -> None:
    settings = Settings(
        store=tmp_path / "store", checkpoint_file=tmp_path / "other-disk" / "checkpoint", registry_poll_s=0
    )
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
    with pytest.raises(Conflict, match="LOG_FORK_GUARD"):
        open_context(settings, create=True)
    assert open_context(settings).ledger.size() == 0  # what only reads still reads
