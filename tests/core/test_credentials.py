"""Signed manifests: real certificates, made here, through the real library."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.core.test_provenance import RECIPE, video
from tests.core.test_reference import decoded
from wan_core.errors import WanError
from wan_core.studio import credentials
from wan_core.studio.credentials import configured, sign
from wan_core.studio.provenance import GENERATED, verify

USES = {
    "digital_signature": False, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
    "key_agreement": False, "key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False,
}  # fmt: skip


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    own = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    now = dt.datetime.now(dt.UTC)
    root = issuer is None
    built = (
        x509.CertificateBuilder().subject_name(own).issuer_name(own if issuer is None else issuer.subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**USES | {"key_cert_sign" if root else "digital_signature": True}), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )  # fmt: skip
    if not root:
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return built.sign(by, hashes.SHA256())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an environment would name."""
    folder = tmp_path_factory.mktemp("keys")
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root = certificate("Test root", keys[0], None, keys[0])
    leaf = certificate("Test signer", keys[1], root, keys[0])
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(leaf.public_bytes(pem) + root.public_bytes(pem))
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return {"WAN_C2PA_CERT": str(folder / "chain.pem"), "WAN_C2PA_KEY": str(folder / "key.pem")}


def test_a_signed_video_proves_that_it_is_untouched(settings: dict[str, str], tmp_path: Path) -> None:
    signing = configured(settings)
    assert signing is not None
    path = video(tmp_path / "x.mp4", signing=signing)
    said = verify(path)
    assert said.credentials == credentials.Credentials("valid", "Test signer")
    assert said.ai_generated
    assert said.recipe == RECIPE
    assert len(decoded(path, "-f", "rawvideo", "-pix_fmt", "gray")) == 5 * 32 * 32
    assert [p.name for p in tmp_path.iterdir()] == ["x.mp4"]
    data = bytearray(path.read_bytes())
    data[-400] ^= 1
    path.write_bytes(data)
    touched = verify(path).credentials
    assert touched is not None
    assert touched.state == "invalid"


def test_an_unsigned_video_has_no_credentials(tmp_path: Path) -> None:
    assert verify(video(tmp_path / "x.mp4")).credentials is None


def test_without_the_library_a_manifest_is_not_called_checked(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "x.mp4", signing=configured(settings))
    monkeypatch.setattr(credentials, "_installed", lambda: False)
    assert verify(path).credentials == credentials.Credentials("unread", "")
    with pytest.raises(WanError, match="pip install c2pa-python"):
        configured(settings)


@pytest.mark.parametrize(("change", "words"), [
    ({"WAN_C2PA_KEY": ""}, "go together"),
    ({"WAN_C2PA_ALG": "rot13"}, "try one of es256"),
    ({"WAN_C2PA_CERT": "/nowhere/chain.pem"}, "cannot be read"),
    ({"WAN_C2PA_ALG": "ps256"}, "cannot sign"),
    ({"WAN_C2PA_CERT": __file__}, "cannot sign"),
])  # fmt: skip
def test_a_signer_that_cannot_sign_is_found_before_any_work(
    settings: dict[str, str], change: dict[str, str], words: str
) -> None:
    with pytest.raises(WanError, match=words) as caught:
        configured(settings | change)
    assert "/nowhere" not in str(caught.value)


def test_nothing_configured_signs_nothing() -> None:
    assert configured({}) is None


def test_the_key_is_not_shown(settings: dict[str, str]) -> None:
    signing = configured(settings)
    assert "PRIVATE" not in repr(signing)
    assert signing is not None
    with pytest.raises(credentials.OutputError):
        sign(Path(__file__), Path(__file__).parent / "gone" / "x.mp4", signing, GENERATED)
