"""What a video says about its own making: an XMP packet with the IPTC digital source type, and back.

The packet stands in a ``uuid`` box at the end of an mp4, where XMP for ISO media belongs; players
skip it.

Source: Adobe XMP Specification Part 3 (2020), 1.2.7; IPTC Video Metadata Hub and NewsCodes
``digitalsourcetype``.
"""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID
from xml.sax.saxutils import quoteattr

import imageio_ffmpeg

from wan_core.errors import MediaError
from wan_core.studio.credentials import COMPOSITE, GENERATED, Credentials, read

XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
C2PA_BOX = UUID("d8fec3d6-1b0e-483c-9297-5828877ec481").bytes
PACKET_LIMIT = 256 * 1024
TOOL = "Wan Atelier"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"


@dataclass(frozen=True)
class Statement:
    """What a file says about itself.

    Attributes:
        ai_generated: it says so; False where it says nothing.
        source_type: its IPTC digital source type, or empty.
        tool: what it says it was made with, or empty.
        recipe: how, if it was made here; else empty.
        credentials: its signed manifest, if it has one: the only part that can be proven.
    """

    ai_generated: bool
    source_type: str
    tool: str
    recipe: dict[str, Any]
    credentials: Credentials | None = None


def source_type(mode: str) -> str:
    """The IPTC digital source type of what a mode makes: all others start from somebody's picture or sound."""
    return GENERATED if mode == "text" else COMPOSITE


def mark(path: Path, mode: str) -> None:
    """Append the statement that a video was made by a model.

    Args:
        path: a finished mp4.
        mode: of the request.
    """
    kind = source_type(mode)
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}"'
        f" xmp:CreatorTool={quoteattr(TOOL)} Iptc4xmpExt:DigitalSourceType={quoteattr(kind)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
    with path.open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4, "big") + b"uuid" + XMP_BOX + packet)


def verify(path: Path) -> Statement:
    """Read what a video says about itself.

    Args:
        path: an mp4.

    Returns:
        Its statement.

    Raises:
        MediaError: it is not an mp4.
    """
    try:
        with path.open("rb") as file:
            packet, has_manifest = _boxes(file, path.stat().st_size, path.name)
        signed = read(path) if has_manifest else None
    except OSError as error:
        raise MediaError("file", path.name, "it cannot be read", "check its name") from error
    said = _properties(packet)
    kind = said.get(f"{{{_IPTC}}}DigitalSourceType", "")
    tool = said.get(f"{{{_XMP}}}CreatorTool", "")
    return Statement(kind in (GENERATED, COMPOSITE), kind, tool, _recipe(path), signed)


def _boxes(file: BinaryIO, length: int, name: str) -> tuple[bytes, bool]:
    """The XMP packet among a file's outermost boxes, or nothing, and whether there is a C2PA manifest."""
    place, first, packet, has_manifest = 0, True, b"", False
    while place + 8 <= length:
        file.seek(place)
        head = file.read(32)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if first and kind != b"ftyp":
            raise MediaError("file", name, "this is not an mp4", "give a video made here")
        has_manifest |= kind == b"uuid" and head[8:24] == C2PA_BOX
        if kind == b"uuid" and head[8:24] == XMP_BOX and size - 24 <= PACKET_LIMIT:
            file.seek(place + 24)
            packet = file.read(max(0, size - 24))
        if size < 8:  # 0 means to the end; less is damage
            break
        place, first = place + size, False
    if first:
        raise MediaError("file", name, "this is not an mp4", "give a video made here")
    return packet, has_manifest


def _properties(packet: bytes) -> dict[str, str]:
    """The simple properties of an XMP packet; {} if it is damaged or tries to define entities."""
    if not packet or b"<!" in packet:
        return {}
    try:
        root = ET.fromstring(packet)
    except ET.ParseError:
        return {}
    said: dict[str, str] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        said |= dict(description.attrib)
        said |= {child.tag: (child.text or "").strip() for child in description}
    return said


def _recipe(path: Path) -> dict[str, Any]:
    """The recipe in the file's comment, if there is one."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", f"file:{path}", "-f", "ffmetadata", "pipe:1"]
    text = subprocess.run(command, capture_output=True, check=False).stdout.decode(errors="replace")
    for line in text.splitlines():
        if line.startswith("comment="):
            # ffmpeg writes a backslash before =, ;, # and itself
            raw = line.removeprefix("comment=").replace("\\\\", "\0")
            raw = raw.replace("\\=", "=").replace("\\;", ";").replace("\\#", "#").replace("\0", "\\")
            try:
                data = json.loads(raw)
            except json.JSONDecodeError:
                return {}
            return data if isinstance(data, dict) else {}
    return {}
