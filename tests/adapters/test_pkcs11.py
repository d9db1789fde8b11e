"""A key in a hardware module, played by SoftHSM2, which is a whole token in software."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditsvc.adapters.external_keys import Pkcs11Signer, Place
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.dsse import check_p256

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
URI = "pkcs11:token=auditsvc;object=release?module-path=/x.so&pin-source=file:/run/pin"


def test_a_uri_names_the_key_and_where_its_pin_is() -> None:
    assert Place.parse(URI) == Place("/x.so", "auditsvc", "release", None, Path("/run/pin"))
    assert Place.parse(URI.replace("object=release", "id=%01%ff")).id == b"\x01\xff"
    assert Place.parse(URI.replace("token=auditsvc", "token=a%20b")).token == "a b"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pkcs11:object=release?module-path=/x.so&pin-source=/p", "token is missing"),
        ("pkcs11:token=t?module-path=/x.so&pin-source=/p", "object or id is missing"),
        ("pkcs11:token=t;object=o", "module-path is missing"),
        (URI + "&pin-value=1234", "use pin-source"),
        (URI + "&max-sessions=3", "max-sessions is not known"),
    ],
)
def test_a_uri_that_lacks_something_or_shows_the_pin_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as raised:
        Place.parse(uri)
    assert "1234" not in str(raised.value)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with a P-256 key named ``release`` and a P-384 key named ``wrong``; the file with its PIN."""
    pkcs11 = pytest.importorskip("pkcs11")
    if not MODULE.exists() or not shutil.which("softhsm2-util"):
        pytest.skip("SoftHSM2 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    words = ["--init-token", "--free", "--label", "auditsvc", "--pin", "2468", "--so-pin", "1357"]
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
    (folder / "pin").write_text("2468\n")
    with pkcs11.lib(str(MODULE)).get_token(token_label="auditsvc").open(user_pin="2468", rw=True) as session:
        for label, curve in (("release", "secp256r1"), ("wrong", "secp384r1")):
            named = {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters(curve)}
            domain = session.create_domain_parameters(pkcs11.KeyType.EC, named, local=True)
            domain.generate_keypair(store=True, label=label, mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN)
    return folder / "pin"


def place(pin: Path, label: str = "release") -> Place:
    return Place.parse(f"pkcs11:token=auditsvc;object={label}?module-path={MODULE}&pin-source=file:{pin}")


def test_what_the_token_signs_verifies_like_any_other(token: Path) -> None:
    signer = Pkcs11Signer("release", place(token))
    for data in (b"", b"x", b"y" * 100_000):
        check_p256(signer.public_pem, signer.sign(data), data)
    assert signer.public_pem.startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_key_on_another_curve_a_missing_key_and_a_missing_pin_are_clear_errors(token: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="P-256"):
        _ = Pkcs11Signer("release", place(token, "wrong")).public_pem
    with pytest.raises(Unavailable, match="auditsvc"):
        Pkcs11Signer("release", place(token, "gone")).sign(b"x")
    with pytest.raises(Unavailable, match="PIN"):
        Pkcs11Signer("release", place(tmp_path / "no-pin")).sign(b"x")
    with pytest.raises(Unavailable, match="can't be used"):
        gone = Place("/no/such/module.so", "auditsvc", "release", None, token)
        Pkcs11Signer("release", gone).sign(b"x")


def test_a_wrong_pin_signs_nothing(token: Path, tmp_path: Path) -> None:
    """In a process of its own: whoever has logged in once need not do it again."""
    (tmp_path / "pin").write_text("0000")
    uri = f"pkcs11:token=auditsvc;object=release?module-path={MODULE}&pin-source=file:{tmp_path / 'pin'}"
    code = "import sys; from auditsvc.adapters.external_keys import Pkcs11Signer, Place; "
    code += "Pkcs11Signer('release', Place.parse(sys.argv[1])).sign(b'x')"
    done = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "can't be used: PinIncorrect" in done.stderr
