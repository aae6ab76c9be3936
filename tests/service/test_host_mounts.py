"""Network file systems: the service refuses for SQLite what the doctor reports."""

from pathlib import Path

import psutil
import pytest

from service.cli.doctor import Check, _database
from service.host.mounts import NETWORK_FILE_SYSTEMS, network_file_system
from service.settings import Settings
from service.store.database import Database, DatabaseRefused

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /far nfs4 rw,relatime 0 0
/dev/sdb1 /far/local\\040disk xfs rw 0 0
server:/a /twice nfs rw 0 0
/dev/sdc1 /twice ext4 rw 0 0
"""
LOCAL = ("ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "fuse.ntfs-3g", "apfs")


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The kernel's list of mounts, which is not there until a test writes it."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path / "proc" / "self" / "mounts"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", None),
        ("/far", "nfs4"),
        ("/far/a", "nfs4"),
        ("/far/local disk/a", None),
        ("/farther", None),
        ("/twice/a", None),
    ],
)
def test_the_innermost_and_last_mount_counts(folder: str, kind: str | None, mounts: Path) -> None:
    assert network_file_system(Path(folder)) is None, "a system that does not list its mounts"
    mounts.write_text(MOUNTS)
    assert network_file_system(Path(folder)) == kind


def test_a_link_is_followed(mounts: Path, tmp_path: Path) -> None:
    mounts.write_text(MOUNTS)
    (tmp_path / "home").symlink_to("/far")
    assert network_file_system(tmp_path / "home" / "fflab") == "nfs4"


@pytest.mark.parametrize(
    "kind",
    [
        *sorted(NETWORK_FILE_SYSTEMS),
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph-fuse",
        "fuse.rclone",
        *LOCAL,
    ],
)
def test_the_doctor_and_the_service_agree(kind: str, mounts: Path, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nx {str(home).replace(' ', chr(92) + '040')} {kind} rw 0 0\n"
    )
    settings = Settings(home=home)
    found = list(_database(settings))
    if kind in LOCAL:
        Database(settings.database).close()
        assert [check.verdict for check in found] == ["ok"]
        return
    with pytest.raises(DatabaseRefused, match=rf"network file system \({kind}\)"):
        Database(settings.database)
    assert not home.exists(), "nothing is written there"
    advice = "choose a local folder with FFLAB_HOME, or PostgreSQL with FFLAB_DATABASE_URL"
    assert found == [
        Check(
            "database",
            "fail",
            f"{home} is on a network file system ({kind}), where SQLite loses data",
            advice,
        )
    ]
