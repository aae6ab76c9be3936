"""Files of arrays that look like NumPy's, and are not."""

import io
import struct
import zipfile

import numpy as np

LABELS = np.arange(20) % 2


def member(name: str, content: bytes) -> io.BytesIO:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for written in ("y.npy", name):
            file = io.BytesIO()
            np.save(file, LABELS)
            archive.writestr(written, content if written == name else file.getvalue())
    target.seek(0)
    return target


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


ILLEGIBLE = (
    *(
        "{'descr': ('|u1',",
        "'" * 3,
        "{'descr': " + "'" * 3,
        "-" * 9_000,
        "[" * 9_000,
        "(" * 9_000 + ")" * 9_000,
        "{b'descr': '|u1'}",
        "{{}: 1}",
        "{[]: 1}",
    ),
    *(
        "",
        " ",
        "\\",
        "{'descr': {}, 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [], 'fortran_order': 1, 'shape': ()}",
        "1" * 9_000,
    ),
    *(
        "{1: 2, b'x': 3}",
        "{'descr': ('|u1', -1), 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 2}",
    ),
    *(
        "{'descr': [('a', '|u1', -1)], 'fortran_order': False, 'shape': (2,)}",
        "{None: 1, 'a': 2}",
        "1 if",
        "\x00",
        "f'{1}'",
        "0x",
        "1j" * 3_000,
    ),
)
