"""Content Credentials: signed C2PA manifests, when a certificate is configured, and their checking.

``c2pa-python`` is optional: without it videos still say by XMP that they are AI-generated (see
``provenance.py``), but nobody can prove who says so.

Source: C2PA Technical Specification 2.1; contentauth/c2pa-python.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from wan_core.errors import OutputError, WanError

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
#: IPTC NewsCodes: made by a model alone, or from somebody's pictures and sounds too.
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
SETTINGS = "WAN_C2PA_CERT", "WAN_C2PA_KEY", "WAN_C2PA_ALG"


@dataclass(frozen=True)
class Signing:
    """Who signs.

    Attributes:
        chain: PEM certificates, the signer's own first.
        key: its PEM private key.
        algorithm: one of ``ALGORITHMS``.
    """

    chain: bytes
    key: bytes
    algorithm: str = "es256"

    def __repr__(self) -> str:
        """Without the key, which must not reach a log."""
        return f"Signing({self.algorithm})"


@dataclass(frozen=True)
class Credentials:
    """What a file's manifest amounts to.

    Attributes:
        state: "valid" (untouched since it was signed), "trusted" (valid, by somebody on the C2PA
            trust list), "invalid", or "unread" where ``c2pa-python`` is not installed.
        signer: the name in the certificate; proven only if trusted.
    """

    state: str
    signer: str


def configured(settings: Mapping[str, str]) -> Signing | None:
    """The signer that an environment names; tried out, so that no finished video is lost to a bad one.

    Args:
        settings: with WAN_C2PA_CERT and WAN_C2PA_KEY, paths of PEM files, and WAN_C2PA_ALG.

    Returns:
        The signer, or None when none is named.

    Raises:
        WanError: one is named and cannot sign.
    """
    chain, key, algorithm = (settings.get(name, "") for name in SETTINGS)
    if not (chain or key):
        return None
    if not (chain and key):
        raise WanError("signing: WAN_C2PA_CERT and WAN_C2PA_KEY go together; set both or neither")
    algorithm = algorithm or ALGORITHMS[0]
    if algorithm not in ALGORITHMS:
        raise WanError(f"signing: WAN_C2PA_ALG {algorithm!r} is not known; try one of {', '.join(ALGORITHMS)}")
    if not _installed():
        raise WanError("signing: a certificate is set and c2pa-python is not installed; pip install c2pa-python")
    try:
        signing = Signing(Path(chain).read_bytes(), Path(key).read_bytes(), algorithm)
    except OSError as error:
        raise WanError("signing: the certificate or the key cannot be read; check WAN_C2PA_CERT and _KEY") from error
    _try(signing)
    return signing


def sign(source: Path, target: Path, signing: Signing, kind: str) -> None:
    """Copy an mp4 with a signed manifest in it.

    Args:
        source: the finished video.
        target: where the signed one goes.
        signing: who signs.
        kind: its IPTC digital source type.

    Raises:
        OutputError: there is no room for it.
    """
    import c2pa

    try:
        with source.open("rb") as plain, target.open("w+b") as signed:
            _sign(signing, "video/mp4", kind, plain, signed)
    except (OSError, c2pa.C2paError) as error:
        target.unlink(missing_ok=True)
        raise OutputError(f"{target.name}: it could not be signed and written; free some space") from error


def read(path: Path) -> Credentials | None:
    """Check a file's manifest; None if it has none."""
    if not _installed():
        return Credentials("unread", "")
    import c2pa

    try:
        with c2pa.Reader(str(path)) as reader:
            store: dict[str, Any] = json.loads(reader.json())
            state = (reader.get_validation_state() or "invalid").lower()
    except c2pa.C2paError as error:
        return None if str(error).startswith("ManifestNotFound") else Credentials("invalid", "")
    manifest = store.get("manifests", {}).get(store.get("active_manifest", ""), {})
    return Credentials(state, manifest.get("signature_info", {}).get("common_name", ""))


def _installed() -> bool:
    return importlib.util.find_spec("c2pa") is not None


def _try(signing: Signing) -> None:
    """Sign a small picture: only signing shows whether a certificate can."""
    import c2pa

    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    plain.seek(0)
    try:
        _sign(
            signing,
            "image/png",
            GENERATED,
            plain,
            io.BytesIO(),
        )
    except c2pa.C2paError as error:
        rule = "the chain must lead from a signer with emailProtection or documentSigning to its root"
        raise WanError(f"signing: this certificate and key cannot sign; {rule}") from error


def _sign(signing: Signing, form: str, kind: str, plain: BinaryIO, signed: BinaryIO) -> None:
    import c2pa

    created = {"action": "c2pa.created", "digitalSourceType": kind}
    manifest = {
        "claim_generator_info": [{"name": "Wan Atelier"}],
        "format": form,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    info = c2pa.C2paSignerInfo(signing.algorithm, signing.chain, signing.key, None)
    c2pa.Builder(json.dumps(manifest)).sign(c2pa.Signer.from_info(info), form, plain, signed)
