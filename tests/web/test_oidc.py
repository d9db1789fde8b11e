"""People of an OIDC issuer: a real issuer on loopback with real keys; what is not its word for us is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from auditsvc.adapters.oidc import OidcIssuer
from auditsvc.errors import InvalidInput, Unauthenticated, Unavailable
from auditsvc.records import Approval
from auditsvc.web.auth.oidc_roles import OidcUsers, parse_role_grants
from auditsvc.web.auth.token_store import COOKIE
from auditsvc.web.state import ProjectState
from tests.web import sample
from tests.web.conftest import Clients

AUDIENCE = "auditsvc"
ELSEWHERE = ("192.0.2.7", 50000)
KEYS = {"rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())}
ALGORITHM = {"rsa": "RS256", "ec": "ES256"}


class LocalIssuer:
    """An issuer with discovery, keys, and a token endpoint that checks PKCE."""

    def __init__(self) -> None:
        self.published = {"rsa": KEYS["rsa"], "ec": KEYS["ec"]}
        self.asked: list[str] = []
        self.codes: dict[str, dict[str, Any]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                found = {"/.well-known/openid-configuration": outer.configuration, "/keys": outer.keys}.get(self.path)
                self._tell(found() if found else None)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                begun = outer.codes.pop(form["code"][0], {"challenge": None})
                verifier = hashlib.sha256(form["code_verifier"][0].encode()).digest()
                good = base64.urlsafe_b64encode(verifier).decode().rstrip("=") == begun["challenge"]
                self._tell({"id_token": outer.token(nonce=begun["nonce"], **begun["claims"])} if good else None)

            def _tell(self, told: object) -> None:
                self.send_response(200 if told is not None else 400)
                self.end_headers()
                self.wfile.write(json.dumps(told or {}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def configuration(self) -> dict[str, str]:
        places = {"jwks_uri": "keys", "token_endpoint": "token", "authorization_endpoint": "authorize"}
        return {"issuer": self.url, **{name: f"{self.url}/{place}" for name, place in places.items()}}

    def keys(self) -> dict[str, Any]:
        kinds = {"rsa": RSAAlgorithm, "ec": ECAlgorithm}
        public = {name: kinds[name[:3].rstrip("2")].to_jwk(key.public_key()) for name, key in self.published.items()}
        return {"keys": [json.loads(key) | {"kid": name, "use": "sig"} for name, key in public.items()]}

    def token(self, key: str = "rsa", signer: Any = None, typ: str = "JWT", **changed: Any) -> str:
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "1234", "iat": now, "exp": now + 300}
        said |= {"preferred_username": "gus", "groups": ["ml-leads"]} | changed
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, signer or KEYS[key], ALGORITHM[key], headers={"kid": key, "typ": typ})


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    made = LocalIssuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def served(site: ProjectState, issuer: LocalIssuer) -> ProjectState:
    grants = "ml-leads=approver, staff=reader, both=approver, both=auditor, plates-qa=auditor@plates"
    site.people = OidcUsers(OidcIssuer(issuer.url, AUDIENCE), parse_role_grants(grants, ("plates",)), site.access.bind)
    site.public_url = "http://127.0.0.1"
    return site


def _who(clients: Clients, token: str, **headers: str) -> tuple[int, Any]:
    got = clients(client=ELSEWHERE).get("/v1/whoami", headers={"authorization": f"Bearer {token}", **headers})
    return got.status_code, got.json()


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_a_group_gives_its_role(clients: Clients, served: ProjectState, issuer: LocalIssuer, key: str) -> None:
    assert _who(clients, issuer.token(key)) == (200, {"name": "gus", "role": "approver", "project": ""})
    assert _who(clients, issuer.token(key, groups=["both"]))[1]["role"] == "approver, auditor"


def test_what_somebody_of_the_issuer_does_stands_under_their_name(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    path = f"/v1/decisions/{sample.decision(2).digest}/approvals"
    bearer = {"authorization": f"Bearer {issuer.token()}"}
    assert clients(client=ELSEWHERE).post(path, json={}, headers=bearer).status_code == 201
    assert [item.approver for item in served.ledger.find(Approval, sample.decision(2).digest)] == ["gus"]
    ann = {"authorization": f"Bearer {issuer.token(sub='another', preferred_username='Ann')}"}
    assert clients(client=ELSEWHERE).post(path, json={}, headers=ann).status_code == 409


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"iat": None},
        {"nbf": 99999999999},
        {"preferred_username": "gus gus"},
        {"preferred_username": None},
        {"signer": rsa.generate_private_key(65537, 2048)},
    ],
    ids=[
        "aud-other",
        "aud-none",
        "iss",
        "exp-past",
        "exp-none",
        "sub",
        "iat",
        "nbf",
        "name-spaced",
        "name-none",
        "signer",
    ],
)
def test_what_is_not_the_issuer_s_word_for_us_now_is_refused(
    clients: Clients, served: ProjectState, issuer: LocalIssuer, changed: dict[str, Any]
) -> None:
    status, told = _who(clients, issuer.token(**changed))
    assert (status, told["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("typ", "changed", "status"),
    [
        ("JWT", {}, 200),
        ("jwt", {"azp": AUDIENCE}, 200),
        ("JWT", {"aud": [AUDIENCE, "other"], "azp": AUDIENCE}, 200),
        ("at+jwt", {"client_id": "ci", "jti": "1"}, 200),
        ("application/AT+JWT", {"client_id": "ci", "jti": "1", "azp": "ci"}, 200),
        ("at+jwt", {"jti": "1"}, 401),
        ("at+jwt", {"client_id": "ci"}, 401),
        ("at+jwt", {"client_id": "ci", "jti": "1", "aud": "other"}, 401),
        ("logout+jwt", {}, 401),
        ("secevent+jwt", {}, 401),
        ("dpop+jwt", {}, 401),
        ("JWT", {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, 401),
        ("JWT", {"azp": "other"}, 401),
        ("JWT", {"aud": [AUDIENCE, "other"]}, 401),
        ("JWT", {"aud": [AUDIENCE, "other"], "azp": "other"}, 401),
        ("JWT", {"exp": 1e308}, 401),
        ("JWT", {"exp": 10**30}, 401),
        ("JWT", {"exp": True}, 401),
        ("JWT", {"auth_time": "now"}, 401),
        ("JWT", {"cnf": {"jkt": "x"}}, 401),
        ("JWT", {"sub": 7}, 401),
        ("JWT", {"sub": "x" * 256}, 401),
    ],
)
def test_a_bearer_token_is_an_access_or_id_token_for_us(
    clients: Clients, served: ProjectState, issuer: LocalIssuer, typ: str, changed: dict[str, Any], status: int
) -> None:
    assert _who(clients, issuer.token(typ=typ, **changed))[0] == status


def test_a_login_takes_no_access_token(served: ProjectState, issuer: LocalIssuer) -> None:
    assert served.people is not None
    taken = served.people.issuer.claims
    assert taken(issuer.token(nonce="n"), "n").name == "gus"
    with pytest.raises(Unauthenticated, match="type"):
        taken(issuer.token(nonce="n", typ="at+jwt", client_id=AUDIENCE, jti="1"), "n")


def test_a_token_signed_with_a_shared_secret_or_not_at_all_is_refused(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    said = jwt.decode(issuer.token(), options={"verify_signature": False})
    shared = jwt.encode(said, "x" * 64, "HS256", headers={"kid": "rsa"})
    unsigned = jwt.encode(said, "", "none", headers={"kid": "rsa"})
    for token in (shared, unsigned, "a.b.c", "..", unsigned.rpartition(".")[0] + ".x"):
        assert _who(clients, token)[0] == 401


def test_somebody_whose_groups_have_no_role_stays_outside(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    for groups in ([], ["others"], None, "staff-not", 7):
        assert _who(clients, issuer.token(groups=groups))[0] == 403
    assert _who(clients, issuer.token(groups="staff"))[1]["role"] == "reader"


def test_a_project_is_chosen_only_by_those_who_have_a_role_in_it(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    caller = served.people.caller if served.people else None
    assert caller is not None
    assert caller(issuer.token(groups=["plates-qa"]), None).project == "plates"
    both = issuer.token(groups=["plates-qa", "ml-leads"])
    assert (caller(both, None).role, caller(both, "plates").role) == ("approver", "auditor")
    assert _who(clients, issuer.token(), **{"auditsvc-project": "plates"})[0] == 403


def test_a_new_key_is_looked_up_and_unknown_ones_are_not_asked_for_all_day(
    clients: Clients, served: ProjectState, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _who(clients, issuer.token())[0] == 200
    before = issuer.asked.count("/keys")
    for number in range(5):
        strange = jwt.encode({"sub": str(number)}, KEYS["rsa"], "RS256", headers={"kid": f"no-{number}"})
        assert _who(clients, strange)[0] == 401
    assert issuer.asked.count("/keys") == before
    monkeypatch.setattr("auditsvc.adapters.oidc.AGAIN_S", -1.0)
    KEYS["rsa2"], ALGORITHM["rsa2"] = rsa.generate_private_key(65537, 2048), "RS256"
    issuer.published = {"rsa2": KEYS["rsa2"]}
    assert _who(clients, issuer.token("rsa2"))[0] == 200
    assert _who(clients, issuer.token("ec", sub="9"))[0] == 401  # taken back by the issuer


def test_an_issuer_that_is_down_is_unavailable_not_unauthenticated(clients: Clients, site: ProjectState) -> None:
    site.people = OidcUsers(OidcIssuer("http://127.0.0.1:9", AUDIENCE), {}, site.access.bind)
    token = jwt.encode({"sub": "1"}, KEYS["rsa"], "RS256", headers={"kid": "rsa"})
    assert _who(clients, token)[0] == 503


def test_an_issuer_that_calls_itself_something_else_is_refused(issuer: LocalIssuer) -> None:
    with pytest.raises(Unavailable, match="calls itself"):
        OidcIssuer(f"{issuer.url}/", AUDIENCE).claims(issuer.token())


def test_settings_that_can_not_be_meant_are_refused() -> None:
    with pytest.raises(InvalidInput, match="https"):
        OidcIssuer("http://login.example.org", AUDIENCE)
    with pytest.raises(InvalidInput, match="client id"):
        OidcIssuer("https://login.example.org", "")
    with pytest.raises(InvalidInput) as found:
        parse_role_grants("a=approver, b=boss, c, d=reader@nowhere, =reader", ())
    assert len(found.value.reasons) == 4


def _begun(clients: Clients) -> tuple[Any, dict[str, str]]:
    browser = clients(client=ELSEWHERE)
    got = browser.get("/login/oidc")
    assert got.status_code == 303
    asked = {name: values[0] for name, values in parse_qs(urlsplit(got.headers["location"]).query).items()}
    assert (asked["code_challenge_method"], asked["client_id"]) == ("S256", AUDIENCE)
    return browser, asked


def test_a_browser_comes_in_through_the_issuer_and_goes_out(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    browser, asked = _begun(clients)
    issuer.codes["c1"] = {"challenge": asked["code_challenge"], "nonce": asked["nonce"], "claims": {}}
    got = browser.get("/login/callback", params={"code": "c1", "state": asked["state"]})
    assert got.status_code == 200 and "Welcome, gus" in got.text
    cookie = next(line for line in got.headers.get_list("set-cookie") if line.startswith(COOKIE))
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert browser.get("/v1/whoami").json()["role"] == "approver"
    held = browser.cookies[COOKIE]
    assert _who(clients, held)[0] == 401  # a session is no token
    browser.post("/logout", headers={"sec-fetch-site": "same-origin"})
    copied = clients(client=ELSEWHERE)
    copied.cookies.set(COOKIE, held)
    assert copied.get("/v1/whoami").status_code == 401
    assert all(token.revoked for token in served.access.tokens() if token.issuer.startswith("oidc:"))
    events = [json.loads(served.ledger.leaf(index)) for index in range(served.ledger.size())]
    assert [event["type"] for event in events[-2:]] == ["user.logged-in", "user.logged-out"]


def test_another_s_login_can_not_be_pushed_onto_a_browser(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    browser, asked = _begun(clients)
    issuer.codes["c1"] = {"challenge": asked["code_challenge"], "nonce": "another", "claims": {}}
    for state, code in (("other", "c1"), (asked["state"], ""), (asked["state"], "unknown"), (asked["state"], "c1")):
        got = browser.get("/login/callback", params={"code": code, "state": state})
        assert got.status_code == 401 and COOKIE not in browser.cookies
    stranger = clients(client=ELSEWHERE)
    assert stranger.get("/login/callback", params={"code": "c1", "state": asked["state"]}).status_code == 401


def test_a_subject_keeps_its_first_name_and_a_name_has_one_subject(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    assert _who(clients, issuer.token())[1]["name"] == "gus"
    assert _who(clients, issuer.token(preferred_username="gustav"))[1]["name"] == "gus"
    for name in ("gus", "GUS", "gu-s", "gus."):
        status, told = _who(clients, issuer.token(sub="another", preferred_username=name))
        assert (status, "another person" in told["detail"]) == (403, True), name
    admin = clients("admin", "eve")
    assert admin.post("/v1/tokens", json={"name": "gu.s", "role": "approver"}).status_code == 409


def test_where_tokens_can_not_approve_a_person_of_the_issuer_can(
    clients: Clients, served: ProjectState, issuer: LocalIssuer
) -> None:
    served.approver_tokens = False
    path = f"/v1/decisions/{sample.decision(2).digest}/approvals"
    bearer = {"authorization": f"Bearer {issuer.token()}"}
    assert clients(client=ELSEWHERE).post(path, json={}, headers=bearer).status_code == 201
