"""`python -m tests.contract`: writes the snapshots of the contract anew."""

from tests.contract import CONTRACT, FOLDER

for name, make in CONTRACT.items():
    (FOLDER / name).write_text(make(), encoding="utf-8")
