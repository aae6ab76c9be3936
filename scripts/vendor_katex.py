"""Take KaTeX, which typesets the formulas of the documentation, out of its npm package into
docs/assets/katex: python -m scripts.vendor_katex katex-VERSION.tgz

`npm pack katex@VERSION` fetches the package. Only what the site loads is kept: the script, the
style sheet, the fonts as woff2, and the licence. The style sheet loses its references to other
formats of the fonts; everything else is copied byte for byte. ORIGIN.json says what was taken from
where.
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
import tarfile
from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "assets" / "katex"
KEPT = re.compile(r"package/(LICENSE|dist/katex\.min\.(?:js|css)|dist/fonts/KaTeX_[\w-]+\.woff2)")
OTHER_FORMATS = re.compile(r',url\(fonts/[\w-]+\.(?:woff|ttf)\) format\("\w+"\)')


def vendor(package: Path) -> None:
    """Replace docs/assets/katex by what a package has."""
    shutil.rmtree(TARGET, ignore_errors=True)
    with tarfile.open(package) as archive:
        described = json.loads(read(archive, "package/package.json"))
        for member in archive.getnames():
            if KEPT.fullmatch(member):
                path = TARGET / member.removeprefix("package/").removeprefix("dist/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read(archive, member))
    style = TARGET / "katex.min.css"
    style.write_text(OTHER_FORMATS.sub("", style.read_text(encoding="utf-8")), encoding="utf-8")
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    origin = {
        "package": f"katex@{described['version']}",
        "license": described["license"],
        "integrity": f"sha512-{digest}",
        "changed": "katex.min.css refers to fonts as woff2 alone",
        "sha256": {
            str(path.relative_to(TARGET)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(TARGET.rglob("*"))
            if path.is_file()
        },
    }
    (TARGET / "ORIGIN.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def read(archive: tarfile.TarFile, name: str) -> bytes:
    """A file of an archive."""
    member = archive.extractfile(name)
    if member is None:
        raise SystemExit(f"{name} is not a file of the package.")
    return member.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="the archive that npm pack wrote")
    vendor(parser.parse_args().package)
