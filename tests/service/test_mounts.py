"""One list of network file systems: what the service refuses for SQLite is what the doctor
reports.
"""

from pathlib import Path

import pytest

from service import mounts
from service.cli.doctor import Check, _database
from service.mounts import NETWORK_FILE_SYSTEMS, network_file_system
from service.settings import Settings
from service.store.database import Database, DatabaseRefused

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:45 / /far rw,relatime - nfs4 server:/home rw
31 30 8:2 / /far/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:46 / /twice rw - nfs server:/a rw
33 32 8:3 / /twice rw - ext4 /dev/sdc1 rw
"""
LOCAL = ("ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "fuse.ntfs-3g", "apfs")


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
def test_the_innermost_and_last_mount_counts(
    folder: str, kind: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    assert network_file_system(Path(folder)) is None, "a system that does not tell"
    mounts.MOUNTS.write_text(MOUNTS)
    assert network_file_system(Path(folder)) == kind


def test_a_link_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    mounts.MOUNTS.write_text(MOUNTS)
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
def test_the_doctor_and_the_service_agree(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    home = tmp_path / "a home"
    mounts.MOUNTS.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:45 / "
        f"{str(home).replace(' ', chr(92) + '040')} rw - {kind} x rw\n"
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
