"""The ways out of the process: TLS and whom it trusts, and the proxy of a provider."""

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.forward_proxy import proxying
from support.transports import KEY, LONG, a_call, bearer, failed, hang, opened, replied, saying, seconds
from support.upstream_server import head, serving, unused_port
from tidegate.domain.failures import FailureCode
from tidegate.domain.secret import Secret
from tidegate.transport import Egress, Limits
from tidegate.transport.trust import authorities

pytestmark = pytest.mark.anyio

OK = head("content-length: 0")


class Site:
    """A vendor's certificate, and the file of the authority that issued it."""

    def __init__(self, folder: Path, *names: str) -> None:
        authority = trustme.CA()
        self.ca_cert = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_cert))
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names).configure_cert(self.tls)


async def test_a_private_authority_is_believed_where_the_egress_names_it(tmp_path: Path) -> None:
    site = Site(tmp_path, "127.0.0.1")
    egress = {"acme": Egress(ca_cert=site.ca_cert)}
    async with serving(saying(OK), site.tls) as upstream, opened(egress=egress) as transport:
        url = upstream.url(scheme="https")
        call = a_call(url, credential=bearer(upstream.url("", scheme="https")))
        reply = await replied(transport.send(call, time_limit=LONG))
        failure = await failed(
            transport.send(a_call(url, provider="other"), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert reply.status == 200
        assert failure.message == 'could not reach provider "other" (tls)'
        assert not failure.was_sent
        assert len(upstream.requests) == 1


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, "other.invalid")
    egress = {"acme": Egress(ca_cert=site.ca_cert)}
    async with serving(saying(OK), site.tls) as upstream, opened(egress=egress) as transport:
        failure = await failed(
            transport.send(a_call(upstream.url(scheme="https")), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert failure.message == 'could not reach provider "acme" (tls)'
        assert not failure.was_sent
        assert upstream.requests == []


async def test_a_server_that_signed_its_own_certificate_can_be_trusted(tmp_path: Path) -> None:
    """As self-hosted models often do; such a certificate is no authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "model server")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = tmp_path / "server.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = tmp_path / "server.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(public, private)
    egress = {"acme": Egress(ca_cert=public)}
    async with serving(saying(OK), tls) as upstream, opened(egress=egress) as transport:
        reply = await replied(transport.send(a_call(upstream.url(scheme="https")), time_limit=LONG))

        assert reply.status == 200


@pytest.mark.parametrize("place", ["file", "directory"])
async def test_the_systems_authorities_are_believed(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = Site(tmp_path, "127.0.0.1")
    directory = tmp_path / "authorities"
    directory.mkdir()
    if place == "file":
        monkeypatch.setenv("SSL_CERT_FILE", str(site.ca_cert))
    else:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
        site.ca_cert.rename(directory / f"{subject_hash(site.ca_cert)}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    async with serving(saying(OK), site.tls) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url(scheme="https")), time_limit=LONG))

        assert reply.status == 200


def subject_hash(certificate: Path) -> str:
    """The name of an authority's file in such a directory: of the SHA-1 of its lower-cased subject."""
    subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    canonical = x509.Name(
        x509.NameAttribute(part.oid, str(part.value).lower(), _type=x509.name._ASN1Type.UTF8String)
        for part in subject
    ).public_bytes()
    digest = hashlib.sha1(canonical[2:]).digest()  # noqa: S324 – the format of others
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n"])
async def test_a_file_without_a_certificate_is_an_error_and_not_an_empty_trust(
    content: str, tmp_path: Path
) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text(content)

    with pytest.raises(ValueError, match=r"ca\.pem holds no certificate"):
        authorities(broken)


async def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        authorities(tmp_path / "absent.pem")


async def test_a_machine_without_authorities_uses_those_of_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", "", "SSL_CERT_DIR", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)

    assert authorities(None) is None
    assert authorities(Site(tmp_path, "x.invalid").ca_cert) is not None


async def test_plain_http_where_tls_is_expected_is_a_tls_failure() -> None:
    async with serving(hang) as upstream, opened() as transport:
        call = a_call(upstream.url(scheme="https"))
        task = asyncio.create_task(
            failed(transport.send(call, time_limit=LONG), FailureCode.CONNECTION_FAILED)
        )
        await upstream.until(lambda: bool(upstream.peers))
        await upstream.peers[0].send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        failure = await task

        assert failure.message == 'could not reach provider "acme" (tls)'
        assert not failure.was_sent


async def test_a_silent_handshake_ends_with_the_connect_timeout() -> None:
    async with (
        serving(hang) as upstream,
        opened(Limits(connect_timeout=seconds(0.2))) as transport,
    ):
        failure = await failed(
            transport.send(a_call(upstream.url(scheme="https")), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert not failure.was_sent
        await upstream.until(lambda: not upstream.peers, within=1)


async def test_tls_below_1_2_and_http_2_are_not_offered() -> None:
    async with serving(hang) as upstream, opened() as transport:
        call = a_call(upstream.url(scheme="https", host="localhost"))
        task = asyncio.create_task(transport.send(call, time_limit=LONG))
        await upstream.until(lambda: any(is_whole_record(peer.unread) for peer in upstream.peers))
        extensions = extensions_of(upstream.peers[0].unread)
        task.cancel()
        await asyncio.wait([task])

        versions = extensions[SUPPORTED_VERSIONS][1:]
        assert {versions[at : at + 2] for at in range(0, len(versions), 2)} == {b"\x03\x03", b"\x03\x04"}
        assert extensions[ALPN] == b"\x00\x09\x08http/1.1"
        assert b"localhost" in extensions[SERVER_NAME]


SERVER_NAME, ALPN, SUPPORTED_VERSIONS = 0, 16, 43


def is_whole_record(data: bytes) -> bool:
    return len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[3:5])


def extensions_of(client_hello: bytes) -> dict[int, bytes]:
    """RFC 8446 §4.1.2, after the headers of record and handshake, a version and 32 random bytes."""
    rest = client_hello[5 + 4 + 2 + 32 :]
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        rest = rest[width + int.from_bytes(rest[:width]) :]
    rest = rest[2:]
    found = {}
    while rest:
        kind, length = int.from_bytes(rest[:2]), int.from_bytes(rest[2:4])
        found[kind], rest = rest[4 : 4 + length], rest[4 + length :]
    return found


async def test_https_goes_through_the_proxy_unseen(tmp_path: Path) -> None:
    site = Site(tmp_path, "model.invalid")
    async with proxying() as proxy, serving(saying(OK), site.tls) as upstream:
        egress = {"acme": Egress(proxy_url=Secret(f"http://127.0.0.1:{proxy.port}"), ca_cert=site.ca_cert)}
        async with opened(egress=egress) as transport:
            origin = upstream.url("", scheme="https", host="model.invalid")
            call = a_call(f"{origin}/v1", credential=bearer(origin))
            await replied(transport.send(call, time_limit=LONG))

        assert upstream.requests[0].header("authorization") == f"Bearer {KEY}"
        (asked,) = proxy.heads
        assert asked.startswith(f"CONNECT model.invalid:{upstream.port} HTTP/1.1\r\n")
        assert KEY not in asked


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_cannot_be_reached_is_told_as_such(scheme: str) -> None:
    egress = {"acme": Egress(proxy_url=Secret(f"http://user:word@127.0.0.1:{unused_port()}"))}
    async with opened(egress=egress) as transport:
        failure = await failed(
            transport.send(a_call(f"{scheme}://model.invalid/v1"), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert failure.message == 'could not reach provider "acme" (proxy)'
        assert not failure.was_sent
