"""A minimal DER writer, for keys and signatures that no library will write (X.690)."""

import base64
import textwrap


def element(tag: int, content: bytes) -> bytes:
    """One tag, its definite minimal length, its content."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    """INTEGER, two's complement, minimal."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE."""
    return element(0x30, b"".join(parts))


def octets(content: bytes) -> bytes:
    """OCTET STRING."""
    return element(0x04, content)


def bits(content: bytes) -> bytes:
    """BIT STRING of whole bytes."""
    return element(0x03, b"\0" + content)


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray([40 * first + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, 0x80 | (arc & 0x7F))
        body += bytes(groups)
    return element(0x06, bytes(body))


def pem(label: str, content: bytes) -> bytes:
    """PEM text with 64 columns (RFC 7468)."""
    body = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def ecdsa(r: int, s: int) -> bytes:
    """Ecdsa-Sig-Value (RFC 3279, section 2.2.3)."""
    return sequence(integer(r), integer(s))
