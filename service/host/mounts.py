"""Finds out which folders lie on network file systems, whose locks SQLite cannot trust."""

from pathlib import Path

import psutil

# as the kernel names them; FUSE puts "fuse." before the name
NETWORK_FILE_SYSTEMS = frozenset(
    {
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
    }
)


def network_file_system(folder: Path) -> str | None:
    """The type of the network file system that a folder lies on.

    Returns None if it lies on a local one, or if the system does not list its mounts.
    """
    try:
        mounts = psutil.disk_partitions(all=True)
    except OSError:
        return None
    # of two mounts at one path the later one is seen
    types = {Path(mount.mountpoint): mount.fstype for mount in mounts}
    there = folder.resolve()
    found = next((types[path] for path in (there, *there.parents) if path in types), "")
    return found if found.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS else None
