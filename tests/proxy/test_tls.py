"""An upstream behind TLS, as providers are: its certificate is checked, and streams come through."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.proxy.conftest import Start
from tests.proxy.recorder import Recorder, Told
from tests.proxy.settling import booked, resolved
from tests.proxy.test_bytes import ANSWER, BEARER, CHAT, CHUNKS, LAST, ODD, STREAM, events
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

SECONDS = 120


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost's own, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[Recorder]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = Recorder(context)
    yield made
    made.close()


def settings(secure: Recorder) -> dict[str, object]:
    upstream = {"base_url": f"https://localhost:{secure.port}/base/v1", "provider": "openai", "private": True}
    return {"upstreams": {"recorder": upstream}, "keys": []}


class TestTls:
    def test_answers_and_streams_come_through(
        self, start: Start, secure: Recorder, certificate: Path, plane: Plane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        proxy = start(**settings(secure))
        acme = plane.customer()
        said = {**BEARER, **headers_of(plane, acme.name)}
        large = ANSWER.replace(b'"new"', b'"pad":"' + b"x" * 3_000_000 + b'","new"')
        streamed = Told(headers=STREAM, pieces=events(*CHUNKS, LAST), chunked=True)
        secure.script = [Told(pieces=[large]), streamed, Told(pieces=[ANSWER])]
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            assert http.post(CHAT, content=ODD, headers=said).content == large
            body = ODD.replace(b'"n":null', b'"stream":true')
            assert http.post(CHAT, content=body, headers=said).content == b"".join(events(*CHUNKS))
            pasted = ODD.replace(b"hello", b"hello " * 500_000)
            rich = {**said, **headers_of(plane, plane.customer("100").name)}
            assert http.post(CHAT, content=pasted, headers=rich).content == ANSWER
        assert secure.seen[-1].body == pasted
        assert {entry["kind"] for entry in booked(acme, 2)} == {"settled"}

    def test_a_certificate_that_nobody_vouches_for_is_not_taken(
        self, start: Start, secure: Recorder, plane: Plane
    ) -> None:
        secure.reset()
        proxy = start(**settings(secure))
        acme = plane.customer("1")
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            answer = http.post(CHAT, content=ODD, headers={**BEARER, **headers_of(plane, acme.name)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream")
        assert secure.seen == []
        resolved(acme, "1")
