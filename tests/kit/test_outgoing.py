"""Requests to strangers' addresses go to public ones alone, in bounded time, and follow nobody."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from noburn.kit.addresses import is_public, literal
from noburn.kit.outgoing import Answer, Failed, Limits, Outgoing, Refused, Resolver, parse
from tests.doubles.webhook import WebhookReceiver

HOSTILE_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "64:ff9b::808:808",
]
HOSTILE_URLS = [
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "//example.com/",
    "https://",
    "https:///path",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.0.0.1:8420/v1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xA9FEA9FE/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://[::1/",
    "https://[v1.x]/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://api.localhost/",
    "https://redis/",
    "https://metadata.google.internal/",
    "https://printer.local/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:port/",
    "https://example.com/#fragment",
    "https://example.com/ space",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/\r\nHost: evil",
    "https://exämple.com/",
    "https://127。0。0。1/",
    "https://ⓛocalhost/",
    "https://example..com/",
    "https://-example.com-/",
    "https://" + "a" * 250 + "!/",
    "https://" + "a-" * 120 + "a!.com/",
    "https://" + "a." * 120 + "!/",
    "https://example.com/" + "a" * 2048,
]


class TestAddresses:
    @pytest.mark.parametrize("text", HOSTILE_ADDRESSES)
    def test_of_somebody_s_own_network_are_not_public(self, text: str) -> None:
        assert not is_public(ip_address(text))

    @pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
    def test_of_the_internet_are_public(self, text: str) -> None:
        assert is_public(ip_address(text))

    @pytest.mark.parametrize(
        "text",
        [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "017700000001",
            "127.1",
            "0177.0.0.01",
            "127.0.1",
        ],
    )
    def test_are_read_in_the_spellings_of_the_c_library(self, text: str) -> None:
        assert str(literal(text)) == "127.0.0.1"

    @pytest.mark.parametrize(
        "text", ["example.com", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "0x", "08", "", "1..2"]
    )
    def test_are_not_seen_where_there_are_none(self, text: str) -> None:
        assert literal(text) is None or text == "0x"


class TestParse:
    @pytest.mark.parametrize("url", HOSTILE_URLS)
    def test_refuses(self, url: str) -> None:
        with pytest.raises(Refused):
            parse(url)

    def test_takes_apart_what_it_lets_through(self) -> None:
        target = parse("https://Hooks.Example.com:8443/a/b?c=d")
        assert (target.scheme, target.host, target.port, target.path) == (
            "https",
            "hooks.example.com",
            8443,
            "/a/b?c=d",
        )
        assert target.authority == "hooks.example.com:8443"
        assert parse("https://[2606:4700::1111]").authority == "[2606:4700::1111]"

    def test_allows_one_s_own_network_only_when_told_to(self) -> None:
        assert parse("http://127.0.0.1:9/x", allow_private=True).port == 9
        with pytest.raises(Refused):
            parse("ftp://127.0.0.1/", allow_private=True)


def answering(*answers: Sequence[str]) -> tuple[list[str], Resolver]:
    """A resolver that gives these answers in turn, the last one for ever, and the names that it was asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return asked, resolve


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def send(url: str, outgoing: Outgoing) -> Answer:
    return outgoing.post(url, body=b"{}", headers={"Content-Type": "application/json"})


class TestOutgoing:
    @pytest.mark.parametrize("address", HOSTILE_ADDRESSES)
    def test_connects_to_no_name_that_has_a_private_address(self, address: str) -> None:
        _, resolve = answering([address])
        with pytest.raises(Refused):
            send("https://hooks.example/", Outgoing(resolver=resolve))

    def test_connects_to_none_of_several_addresses_when_one_is_private(self) -> None:
        _, resolve = answering(["1.1.1.1", "10.0.0.1"])
        with pytest.raises(Refused):
            send("https://hooks.example/", Outgoing(resolver=resolve))

    def test_resolves_once_so_that_a_second_answer_gains_nothing(self, receiver: WebhookReceiver) -> None:
        # The first answer is where nobody listens, the second where the receiver does.
        asked, resolve = answering(["127.0.0.2"], ["127.0.0.1"])
        outgoing = Outgoing(allow_private=True, resolver=resolve)
        with pytest.raises(Failed):
            send(f"http://hooks.example:{receiver.port}/", outgoing)
        assert asked == ["hooks.example"]
        assert receiver.received == []

    def test_connects_to_the_checked_address_under_the_name_of_the_host(
        self, receiver: WebhookReceiver
    ) -> None:
        asked, resolve = answering(["127.0.0.1"])
        url = f"http://hooks.example:{receiver.port}/a?b=c"
        answer = send(url, Outgoing(allow_private=True, resolver=resolve))
        assert answer.status == 204
        (got,) = receiver.received
        assert (got.headers["host"], got.path) == (f"hooks.example:{receiver.port}", "/a?b=c")
        assert asked == ["hooks.example"]

    def test_tries_the_next_address_where_one_does_not_answer(self, receiver: WebhookReceiver) -> None:
        _, resolve = answering(["127.0.0.2", "127.0.0.1"])
        outgoing = Outgoing(allow_private=True, resolver=resolve)
        assert send(f"http://hooks.example:{receiver.port}/", outgoing).status == 204

    def test_follows_no_redirect(self, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.headers = 302, {"Location": receiver.url}
        answer = send(receiver.url, Outgoing(allow_private=True))
        assert answer.status == 302
        assert len(receiver.received) == 1

    def test_uses_no_proxy_of_the_environment(
        self, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert send(receiver.url, Outgoing(allow_private=True)).status == 204

    def test_reads_no_more_of_an_answer_than_it_is_allowed(self, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.body = 500, b"x" * 5_000_000
        answer = send(receiver.url, Outgoing(allow_private=True, limits=Limits(body_bytes_max=100)))
        assert answer.body == b"x" * 100

    def test_gives_up_on_an_answer_that_does_not_come(self, receiver: WebhookReceiver) -> None:
        receiver.hold()
        with pytest.raises(Failed, match="no answer within"):
            send(receiver.url, Outgoing(allow_private=True, limits=Limits(total_seconds=0.3)))

    def test_gives_up_on_an_answer_that_drips(self, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.drip, receiver.body = 200, True, b"x" * 1000
        with pytest.raises(Failed, match="no answer within"):
            send(receiver.url, Outgoing(allow_private=True, limits=Limits(total_seconds=0.5)))

    def test_says_what_failed_without_an_address(self) -> None:
        _, resolve = answering(["127.0.0.2"])
        outgoing = Outgoing(allow_private=True, resolver=resolve)
        with pytest.raises(Failed, match="does not accept") as raised:
            send("http://hooks.example:9/", outgoing)
        assert "127" not in str(raised.value)

    def test_says_so_when_a_name_has_no_address(self) -> None:
        def resolve(host: str, port: int) -> Sequence[str]:
            raise OSError("nobody knows it")

        with pytest.raises(Failed, match="could not be resolved"):
            send("https://hooks.example/", Outgoing(resolver=resolve))


def certificate_for(name: str, directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, private


class TestTls:
    @pytest.fixture
    def secure(self, tmp_path: Path) -> Iterator[tuple[WebhookReceiver, ssl.SSLContext, list[str]]]:
        certificate, private = certificate_for("hooks.example", tmp_path)
        names: list[str] = []
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, private)
        server.sni_callback = lambda _socket, name, _context: names.append(name)
        client = ssl.create_default_context(cafile=str(certificate))
        with WebhookReceiver(context=server) as receiver:
            yield receiver, client, names

    def test_names_the_host_and_checks_its_certificate(
        self, secure: tuple[WebhookReceiver, ssl.SSLContext, list[str]]
    ) -> None:
        receiver, client, names = secure
        _, resolve = answering(["127.0.0.1"])
        outgoing = Outgoing(allow_private=True, resolver=resolve, ssl_context=client)
        assert send(f"https://hooks.example:{receiver.port}/", outgoing).status == 204
        assert names == ["hooks.example"]

    def test_refuses_another_name_s_certificate(
        self, secure: tuple[WebhookReceiver, ssl.SSLContext, list[str]]
    ) -> None:
        receiver, client, _ = secure
        _, resolve = answering(["127.0.0.1"])
        outgoing = Outgoing(allow_private=True, resolver=resolve, ssl_context=client)
        with pytest.raises(Failed, match="certificate is not valid"):
            send(f"https://other.example:{receiver.port}/", outgoing)
        assert receiver.received == []

    def test_refuses_a_certificate_that_nobody_vouches_for(
        self, secure: tuple[WebhookReceiver, ssl.SSLContext, list[str]]
    ) -> None:
        receiver, _, _ = secure
        _, resolve = answering(["127.0.0.1"])
        with pytest.raises(Failed, match="certificate is not valid"):
            send(
                f"https://hooks.example:{receiver.port}/",
                Outgoing(allow_private=True, resolver=resolve),
            )
