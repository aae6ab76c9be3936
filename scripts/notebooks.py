"""Execute the notebooks of examples/ against a running service, and keep what they show small and
free of this machine's names.

In an environment of its own (`pip install '.[server,notebook]'`), with a service at FFLAB_URL:
`python scripts/notebooks.py`.
"""

import io
import platform
import re
import sys
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_BYTES = 1_000_000
COLOURS = 256
CELL_SECONDS = 900


def executed(path: Path) -> str:
    """The notebook with fresh outputs, each picture once."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            shown = output.get("data", {})
            if "image/png" in shown:
                shown.pop("image/svg+xml", None)
                shown["image/png"] = smaller(shown["image/png"])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return str(nbformat.writes(notebook)) + "\n"


def smaller(png: str) -> str:
    """The same picture with a palette: a chart has few colours."""
    picture, target = Image.open(io.BytesIO(b64decode(png))).convert("RGB"), io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return b64encode(target.getvalue()).decode()


def main() -> None:
    """Write each notebook back, unless it is too large or names this machine."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text = executed(path)
        words = re.sub(r'"image/png": "[^"]*"', "", text)
        named = [
            name
            for name in (str(Path.home()), platform.node())
            if re.search(rf"\b{re.escape(name)}\b", words)
        ]
        if named or len(text) > MOST_BYTES:
            sys.exit(f"{path}: not written: {len(text):,} bytes, and names {named}")
        path.write_text(text)
        print(f"{path.name}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
