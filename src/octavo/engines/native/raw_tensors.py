"""The large tensors of an ONNX file, taken out of it before it is parsed.

Protobuf copies every number that it reads and keeps the interpreter meanwhile: with 60 MB, whoever serves beside it
waits for tens of milliseconds. A file says how long each of its parts is, so that its numbers can be stepped over, and
what is left is parsed in one or two. Knows the wire format (https://protobuf.dev/programming-guides/encoding) and three
fields of ONNX; checks nothing that the parser checks.
"""

from __future__ import annotations

from collections.abc import Iterator

# The tags of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data: field number * 8 + kind.
_GRAPH, _INITIALIZER, _RAW_DATA = (7 << 3 | 2), (5 << 3 | 2), (9 << 3 | 2)
_LARGE_BYTES = 1 << 12
_MOST_VARINT_BYTES = 10


def without_large_tensors(content: bytes) -> tuple[bytes, list[memoryview | None]]:
    """Divide an ONNX model into how it is built and its numbers.

    Returns:
        The model, in which large initializers have no `raw_data`; and for each initializer of its graph, in order, what
        was taken from it, as a view of `content`, or None.

    Raises:
        ValueError: the bytes are no message of protobuf.
    """
    taken: list[memoryview | None] = []
    view = memoryview(content)
    parts: list[bytes | memoryview] = []
    for tag, start, value, end in _fields(view):
        if tag == _GRAPH:
            graph = _graph_without(view[value:end], taken)
            parts += [_varint_from_int(tag), _varint_from_int(len(graph)), graph]
        else:
            parts.append(view[start:end])
    return b"".join(parts), taken


def _graph_without(graph: memoryview, taken: list[memoryview | None]) -> bytes:
    parts: list[bytes | memoryview] = []
    for tag, start, value, end in _fields(graph):
        part: bytes | memoryview = graph[start:end]
        if tag == _INITIALIZER:
            tensor = graph[value:end]
            cut = _large_raw_data(tensor)
            taken.append(None if cut is None else tensor[cut[1] : cut[2]])
            if cut is not None:
                rest = b"".join((tensor[: cut[0]], tensor[cut[2] :]))
                part = b"".join((_varint_from_int(tag), _varint_from_int(len(rest)), rest))
        parts.append(part)
    return b"".join(parts)


def _large_raw_data(tensor: memoryview) -> tuple[int, int, int] | None:
    """Return where a tensor's numbers begin, with their tag and without it, and where they end, if they are large."""
    if len(tensor) < _LARGE_BYTES:
        return None
    found = [(start, value, end) for tag, start, value, end in _fields(tensor) if tag == _RAW_DATA]
    # Of a field that is there twice the last one counts: a rare spelling, which is left to the parser.
    return found[0] if len(found) == 1 and found[0][2] - found[0][1] >= _LARGE_BYTES else None


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: the tag, and where the tag begins, the value begins and the value ends."""
    start = 0
    while start < len(message):
        tag, value = _int_from_varint(message, start)
        match tag & 7:
            case 0:
                _, end = _int_from_varint(message, value)
            case 1:
                end = value + 8
            case 2:
                length, value = _int_from_varint(message, value)
                end = value + length
            case 5:
                end = value + 4
            case kind:
                raise ValueError(f"a field of kind {kind}, which ONNX has not")
        if end > len(message):
            raise ValueError("a field that is cut off")
        yield tag, start, value, end
        start = end


def _int_from_varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the whole number that begins at `place`, and where it ends."""
    number = 0
    for step, byte in enumerate(message[place : place + _MOST_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * step
        if byte < 0x80:
            return number, place + step + 1
    raise ValueError("a number that is cut off")


def _varint_from_int(number: int) -> bytes:
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
