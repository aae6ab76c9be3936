"""Runs a command of the command line, and says how it ended."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from service import cli


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Fflab = Callable[..., Ended]


def in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fflab:
    """Runs a command in this process, in a pipe."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fflab", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run
