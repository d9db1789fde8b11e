"""OpenID Connect: validation of an issuer's tokens, and the browser login.

The issuer's configuration and keys are cached for an hour.  An unknown key is looked up at most every 30 seconds, so
that forged tokens cannot flood the issuer.  Only asymmetric signatures are accepted, never ``none`` or shared secrets,
and the audience of a token must be this service.  A login takes ID tokens alone; the API also takes access tokens of
the JWT profile.  Logout tokens, tokens for another client and tokens that are bound to a key are refused.

References: OpenID Connect Core 1.0 and Discovery 1.0 (2014); RFC 7519 (JWT); RFC 7636 (PKCE); RFC 8725 (JWT best
current practices); RFC 9068 (JWT profile for access tokens).
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import jwt

from auditsvc.errors import InvalidInput, Unauthenticated, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEPT_S = 3600.0
AGAIN_S = 30.0
LEEWAY_S = 30
TIMEOUT_S = 10.0
LATEST = 253402300800
"""Seconds of the Unix epoch at the end of the year 9999: a later time is none."""
LARGEST = 1 << 20
"""Bytes that an issuer's answer may have."""


@dataclass(frozen=True)
class Claims:
    """What a token says of a person: who in the issuer's words, by name, in which groups; until when (seconds)."""

    subject: str
    name: str
    groups: tuple[str, ...]
    expires: float


@dataclass
class OidcIssuer:
    """One issuer, as one client sees it."""

    url: str
    audience: str
    secret: str = field(default="", repr=False)
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    _known: dict[str, Any] = field(default_factory=dict)
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _read: float = float("-inf")
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.audience:
            raise InvalidInput("an OIDC issuer needs AUDITSVC_OIDC_AUDIENCE: our client id, which its tokens must name")
        _require_safe(self.url)

    def claims(self, token: str, nonce: str | None = None) -> Claims:
        """What this token says, if it is the issuer's, for us, and good now; with the nonce of a login.

        Raises:
            Unauthenticated: it is not; says why.
            Unavailable: the issuer can't be asked for its keys.
        """
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in ALGORITHMS:
                raise Unauthenticated("the token is not signed by a key pair")
            kind = _kind(head, login=nonce is not None)
            found: Mapping[str, Any] = jwt.decode(
                token,
                self._key(str(head.get("kid", ""))),
                algorithms=list(ALGORITHMS),
                audience=self.audience,
                issuer=self.url,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": False},
            )
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise Unauthenticated(f"the token of {self.url} can't be taken: {error}") from error
        if nonce is not None and found.get("nonce") != nonce:
            raise Unauthenticated("the token answers another login than the one that was begun here")
        fault = _fault(found, kind, self.audience)
        if fault:
            raise Unauthenticated(f"the token of {self.url} can't be taken: {fault}")
        groups = found.get(self.groups_claim, ())
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list | tuple) else ()
        return Claims(
            subject=str(found["sub"]),
            name=str(found.get(self.name_claim, "")),
            groups=tuple(str(group) for group in named),
            expires=float(found["exp"]),
        )

    def login_address(self, back: str, state: str, nonce: str, verifier: str) -> str:
        """The URL to which a browser is redirected to log in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self.audience,
            "redirect_uri": back,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._configured('authorization_endpoint')}?{urlencode(asked)}"

    def redeem(self, code: str, back: str, verifier: str, nonce: str) -> Claims:
        """Who came back with this code.

        Raises:
            Unauthenticated: the issuer does not take the code, or what it gives is not for this login.
            Unavailable: the issuer does not answer.
        """
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self.audience,
            "code_verifier": verifier,
        } | ({"client_secret": self.secret} if self.secret else {})
        answer = _asked(self._configured("token_endpoint"), urlencode(given).encode())
        if not isinstance(answer.get("id_token"), str):
            raise Unauthenticated("the issuer gave no id token")
        return self.claims(answer["id_token"], nonce)

    def _key(self, name: str) -> jwt.PyJWK:
        with self._asking:
            age = time.monotonic() - self._read
            if age > KEPT_S or (name not in self._keys and age > AGAIN_S):
                self._read_keys()
        if name not in self._keys:
            raise Unauthenticated(f"the issuer {self.url} has no key {name[:100]!r}")
        return self._keys[name]

    def _read_keys(self) -> None:
        self._known = _asked(f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        if self._known.get("issuer") != self.url:
            raise Unavailable(f"{self.url} calls itself {self._known.get('issuer')!r}; give the issuer's own name")
        found = _asked(self._configured("jwks_uri"))
        try:
            keys = jwt.PyJWKSet.from_dict(found).keys
        except jwt.PyJWTError as error:
            raise Unavailable(f"the keys of {self.url} can't be used: {error}") from error
        self._keys = {str(key.key_id or ""): key for key in keys if key.public_key_use in (None, "sig")}
        self._read = time.monotonic()

    def _configured(self, name: str) -> str:
        if not self._known:
            self._read_keys()
        address = self._known.get(name)
        if not isinstance(address, str):
            raise Unavailable(f"the issuer {self.url} names no {name}")
        _require_safe(address)
        return address


def _kind(head: Mapping[str, Any], *, login: bool) -> Literal["access", "id"]:
    """What the header says that the token is; an access token is no proof of a login.  Raises ``Unauthenticated``."""
    name = str(head.get("typ", "JWT")).lower().removeprefix("application/")
    if name == "at+jwt" and not login:
        return "access"
    if name == "jwt":
        return "id"
    raise Unauthenticated(f"a token of the type {name[:40]!r} is not taken here")


def _fault(claims: Mapping[str, Any], kind: Literal["access", "id"], audience: str) -> str:
    """What RFC 9068, section 4, or OpenID Connect Core, section 3.1.3.7, forbids in these claims; else nothing."""
    times = [claims[name] for name in ("exp", "iat", "nbf", "auth_time") if name in claims]
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not 0 <= one < LATEST for one in times):
        return "a time is no time"
    if "events" in claims:
        return "it reports an event, such as a logout, and authenticates no user"
    if "cnf" in claims:
        return "it is bound to a key whose possession is not proven here"
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
        return "the subject is not a text of 1 to 255 characters"
    if kind == "access":
        missing = [name for name in ("client_id", "jti") if not isinstance(claims.get(name), str)]
        return f"an access token needs {missing[0]}" if missing else ""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else audience) != audience:
        return "it was issued to another client (azp)"
    return ""


def _require_safe(url: str) -> None:
    """Require HTTPS or loopback: keys fetched over plain HTTP could be replaced in transit."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if parts.scheme != "http" or not here:
        raise InvalidInput(f"an OIDC issuer is reached over https, not {url!r}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead from https to anywhere."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the answer is then an error of its status."""
        return


def _asked(url: str, form: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(url, form, {"accept": "application/json"})  # noqa: S310 - https or loopback
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
            fields = json.loads(answer.read(LARGEST))
    except urllib.error.HTTPError as error:
        if form is not None and error.code < 500:
            raise Unauthenticated(f"the issuer refuses the login ({error.code})") from error
        raise Unavailable(f"the issuer answers {error.code} at {url}") from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"the issuer does not answer at {url}: {error}") from error
    if not isinstance(fields, dict):
        raise Unavailable(f"the issuer's answer at {url} is no object")
    return fields
