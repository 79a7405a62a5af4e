"""A Parquet file whose first page header lies: its sizes are numbers of Thrift's compact protocol, changed in place."""

from __future__ import annotations

FIELDS = ("uncompressed", "compressed", "values")
_START = 4  # after the magic number


def claiming(parquet: bytes, field: str, value: int) -> bytes:
    """Return the file with another `value` in its first page header: bytes before or after compression, or the number of values.

    The file keeps its length, so that its footer still fits: a header that grows takes its bytes from the end of the page.
    """
    ends, sizes = [_START], []
    for _ in FIELDS:  # type, then these
        _, at = _number(parquet, ends[-1] + 1)
        ends.append(at + (1 if len(ends) == 3 else 0))  # the number of values is the first field of a nested header
    for name, end in zip(("uncompressed", "compressed", "values"), ends[1:], strict=True):
        number, after = _number(parquet, end + 1)
        sizes.append((name, end + 1, after, number))
    size = next(number // 2 for name, _, _, number in sizes if name == "compressed")
    data_end = _data_start(parquet) + size
    changed = {field: value}
    for _ in range(3):  # until the size of the page fits its own number
        header, at = b"", _START
        for name, begin, after, _ in sizes:
            new = changed.get(name)
            header += parquet[at:begin] + (parquet[begin:after] if new is None else _varint(new << 1 if new >= 0 else (-new << 1) - 1))
            at = after
        grown = len(header) - (at - _START)
        if field != "compressed" and grown:
            changed["compressed"] = size - grown
    rest = parquet[at:data_end]
    return parquet[:_START] + header + (rest[: len(rest) - grown] if grown >= 0 else rest + b"\0" * -grown) + parquet[data_end:]


def _data_start(parquet: bytes) -> int:
    """Return where the data of the first page begins: the header is read by its own writer's layout, up to its two stop bytes."""
    import io

    import pyarrow.parquet as pq

    column = pq.ParquetFile(io.BytesIO(parquet)).metadata.row_group(0).column(0)
    _, at = _number(parquet, _START + 1)
    _, at = _number(parquet, at + 1)
    size, _ = _number(parquet, at + 1)
    return _START + column.total_compressed_size - size // 2


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length number (zigzag: twice its value) and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])
