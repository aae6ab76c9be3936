"""Writes the TypeScript types of examples/typescript anew, from tests/contract/openapi.json.

Run `make soak-programs` first: the generator is in .venv-soak.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / ".venv-soak"
DOCUMENT = ROOT / "tests" / "contract" / "openapi.json"
TYPES = ROOT / "examples" / "typescript" / "fflab.d.ts"
# what has a default may be left out of a request
OPTIONS = ("--default-non-nullable=false",)


def generate(output: Path) -> None:
    """Write the types to a file."""
    node = PROGRAMS / "bin" / "node"
    generator = PROGRAMS / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
    command = [node, generator, DOCUMENT, "--output", output, *OPTIONS]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    generate(TYPES)
    print(TYPES)
