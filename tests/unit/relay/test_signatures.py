"""What a receiver believes: messages of the holder of the secret, lately, under their own id."""

import json

import pytest

from assets.relay import signatures
from assets.relay.signatures import ID, SIGNATURE, TIMESTAMP, SignatureError, signed_headers, verify

SECRET = "q7-Only-For-Tests-Wd3"
BODY = json.dumps({"alert_id": "ab" * 16, "revision": 2, "headline": "Überflutung"}).encode()
NAME = "ab" * 16 + ".2"
AT = 1_770_000_000.0


def headers(**changed: str) -> dict[str, str]:
    return {**signed_headers(SECRET, NAME, BODY, at=AT), **changed}


def test_a_signed_message_is_believed_whatever_the_case_of_its_headers():
    assert verify(SECRET, headers(), BODY, at=AT + 299) == NAME
    assert verify(SECRET, {name.upper(): said for name, said in headers().items()}, BODY, at=AT) == NAME


def test_the_signature_is_what_the_documentation_says():
    # By hand: printf '%s.%s' 1770000000 '{"a":1}' | openssl dgst -sha256 -hmac key
    assert (
        signatures.signature("key", 1_770_000_000, b'{"a":1}')
        == "v1=882560a8e7e3751fbb937d76784971b5368df7b5797e05fa6852fc86bcae74f7"
    )


@pytest.mark.parametrize(
    ("changed", "body", "at", "why"),
    [
        ({}, BODY.replace(b"2", b"3"), AT, SIGNATURE),
        ({}, BODY, AT + 301, "300 seconds away"),
        ({}, BODY, AT - 301, "300 seconds away"),
        ({TIMESTAMP: str(int(AT) + 1)}, BODY, AT, SIGNATURE),
        ({TIMESTAMP: ""}, BODY, AT, TIMESTAMP),
        ({TIMESTAMP: "١٧٧"}, BODY, AT, TIMESTAMP),
        ({TIMESTAMP: "9" * 400}, BODY, AT, TIMESTAMP),
        ({SIGNATURE: ""}, BODY, AT, SIGNATURE),
        ({SIGNATURE: "v1=é"}, BODY, AT, SIGNATURE),
        ({ID: "cd" * 16 + ".2"}, BODY, AT, "not the id of the body"),
    ],
)
def test_anything_else_is_not(changed, body, at, why):
    with pytest.raises(SignatureError, match=why):
        verify(SECRET, headers(**changed), body, at=at)


def test_another_secret_is_not():
    with pytest.raises(SignatureError, match=SIGNATURE):
        verify(SECRET + "x", headers(), BODY, at=AT)


def test_what_it_says_never_holds_the_right_signature():
    with pytest.raises(SignatureError) as refusal:
        verify(SECRET, headers(**{SIGNATURE: "v1=wrong"}), BODY, at=AT)
    assert signed_headers(SECRET, NAME, BODY, at=AT)[SIGNATURE].removeprefix("v1=") not in str(refusal.value)


def test_it_compares_in_constant_time(monkeypatch):
    """The twin of a plain comparison, whose time tells how many characters were right."""
    compared = []
    real = signatures.hmac.compare_digest
    monkeypatch.setattr(signatures.hmac, "compare_digest", lambda *said: compared.append(said) or real(*said))
    verify(SECRET, headers(), BODY, at=AT)
    assert len(compared) == 1
