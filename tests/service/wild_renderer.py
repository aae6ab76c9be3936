"""A renderer that also does what it must not, by the name of the chart that is asked for."""

import sys
import time
from pathlib import Path

import vl_convert

from service.web.drawing.protocol import ChartRequest, Request, Setup
from service.web.drawing.renderer import Draw, drawing, main

ENDLESS = {"data": {"sequence": {"start": 0, "stop": 3e8}}, "mark": "point"}
CONTROL = {
    "data": {"values": [{"x": "\x01"}]},
    "mark": "text",
    "encoding": {"text": {"field": "x"}},
}
GOOD = {"data": {"values": [{"x": 1}]}, "mark": "point", "encoding": {"x": {"field": "x"}}}


def wild(setup: Setup) -> Draw:
    """Return the function that draws."""
    tame = drawing(setup)

    def draw(request: Request) -> bytes:
        name = request.name if isinstance(request, ChartRequest) else ""
        match name:
            case "good":
                return vl_convert.vegalite_to_svg(GOOD).encode()
            case "control":
                return vl_convert.vegalite_to_svg(CONTROL).encode()
            case "endless":
                return vl_convert.vegalite_to_svg(ENDLESS).encode()
            case "greedy":
                held = []
                while True:
                    held.append(b"x" * 2**24)
            case "hanging":
                (setup.artifacts / "begun").touch()
                time.sleep(3600)
            case "leaving":
                sys.exit(3)
            case "once":
                return _once(setup.artifacts / "once")
            case "raising":
                raise RuntimeError("a fault of the renderer")
        return tame(request)

    return draw


def _once(mark: Path) -> bytes:
    """Hang the first time, draw after it."""
    if not mark.exists():
        mark.touch()
        time.sleep(3600)
    return b"<svg/>"


if __name__ == "__main__":
    main(wild)
