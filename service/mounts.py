"""Which folders lie on network file systems, whose locks SQLite cannot trust."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "ceph-fuse",
            "cifs",
            "coda",
            "davfs",
            "gcsfuse",
            "glusterfs",
            "gpfs",
            "juicefs",
            "lustre",
        ),
        *(
            "mfs",
            "ncpfs",
            "nfs",
            "nfs4",
            "panfs",
            "pvfs2",
            "rclone",
            "s3fs",
            "smb3",
            "smbfs",
            "sshfs",
            "wekafs",
        ),
    }
)


def network_file_system(folder: Path) -> str | None:
    """The type of the network file system that a folder lies on; None where it is on none, or the
    system does not tell.
    """
    mounts: dict[Path, str] = {}
    for line in MOUNTS.read_text().splitlines() if MOUNTS.exists() else ():
        place, _, source = line.partition(" - ")
        mounts[Path(_unescaped(place.split()[4]))] = source.split()[0]
    there = folder.resolve()
    kind = next((mounts[path] for path in (there, *there.parents) if path in mounts), "")
    return kind if kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS else None


def _unescaped(path: str) -> str:
    return re.sub(
        r"\\(\d{3})", lambda found: chr(int(found[1], 8)), path
    )  # the kernel writes blanks and the like in octal
