"""Signatures are those of the standard, and nothing else passes."""

from __future__ import annotations

import pytest

from auditsvc.errors import Unauthenticated
from auditsvc.web.webhook_delivery import TOLERANCE_S, key_of, new_secret, sign, verify

BODY = b'{"test": 2432232314}'
KEY = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
AT = 1614265330
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""The example that the libraries of Standard Webhooks test themselves with."""


def test_the_standard_s_own_example() -> None:
    assert sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", AT, BODY) == SIGNED


def test_mlflow_s_own_signature_passes() -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    given = _generate_hmac_signature("a secret", "delivery-1", str(AT), BODY.decode())
    verify(b"a secret", "delivery-1", str(AT), BODY, given, AT)


@pytest.mark.parametrize(
    ("message", "timestamp", "body", "given", "now"),
    [
        ("other", str(AT), BODY, SIGNED, AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT + 1), BODY, SIGNED, AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT), BODY + b" ", SIGNED, AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT), BODY, "", AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT), BODY, "v1,\N{SNOWMAN}", AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT), BODY, SIGNED, AT + TOLERANCE_S + 1),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "", BODY, SIGNED, AT),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "9" * 400, BODY, SIGNED, AT),
    ],
)
def test_what_was_changed_or_kept_is_refused(message: str, timestamp: str, body: bytes, given: str, now: float) -> None:
    verify(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", str(AT), BODY, f"v1,old= {SIGNED}", AT)
    with pytest.raises(Unauthenticated):
        verify(KEY, message, timestamp, body, given, now)


def test_every_secret_is_new() -> None:
    assert len({new_secret() for _ in range(50)}) == 50
    assert len(key_of(new_secret())) == 32
