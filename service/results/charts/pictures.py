"""A chart's specification as a picture: SVG with outlines, PNG, PDF, in the size that a look asks
for.
"""

import json
import re
from typing import Any, Literal

import vl_convert

from service.results.chart_formats import MM_PER_INCH, PT_PER_INCH, SCREEN, ChartLook
from service.results.charts.outlines import outlined
from service.results.charts.print_layout import laid_out, svg_width, without_title
from service.results.charts.style import FONT

OWN_FONT = f"Liberation Sans, {FONT}"
PAGE_FONT = FONT.replace("sans-serif", "Liberation Sans, Arimo, sans-serif")  # all equally wide
PT_PER_CSS_PX = 0.75  # how large browsers show a pixel on paper
PNG_SCALE, PRINT_DPI = 2.0, 300.0
# what an image in a page does without: descriptions of marks, names of parts, and defaults
UNUSED = re.compile(r' (?:role|class|aria-[a-z]+|pointer-events)="[^"]*"| opacity="1"')
UNSEEN = re.compile(r'<path d="(?:M0,0h0v0h0Z)?"[^>]*/>')
PLACES = re.compile(r' (?:d|x|y|width|height|transform)="[^"]*"')
FRACTION = re.compile(r"\d+\.\d+")
ONE_VALUE = re.compile(r" with values from ([^\s\"]+) to \1(?=\")")  # of an axis, as it is spoken
SIZE = re.compile(r' width="([\d.]+)" height="([\d.]+)"')


def pictured(
    specification: str, fmt: Literal["svg", "png", "pdf"], look: ChartLook = SCREEN
) -> bytes:
    """Draw a chart.

    **Arguments:**

    - `specification`: the chart as JSON that can be drawn.
    """
    # the same font on machines that have another one under the names in the specification
    specification = specification.replace(json.dumps(FONT), json.dumps(OWN_FONT))
    spec: str | dict[str, Any] = specification
    if not look.is_plain:
        spec = looking(json.loads(specification), look)
    if fmt == "png" and look.pt_per_px is None:
        return bytes(vl_convert.vegalite_to_png(spec, scale=PNG_SCALE))
    svg = ONE_VALUE.sub(r" at \1", vl_convert.vegalite_to_svg(spec))
    pt_per_px = _scale(svg, look)
    if fmt == "svg":
        drawn = outlined(svg)
        return (_sized(drawn, pt_per_px, "mm") if pt_per_px else drawn).encode()
    if fmt == "pdf":  # whose unit is a point
        return bytes(vl_convert.svg_to_pdf(_sized(svg, pt_per_px or PT_PER_CSS_PX)))
    return bytes(vl_convert.svg_to_png(svg, scale=pt_per_px, ppi=PRINT_DPI))


def readable(specification: str) -> str:
    """Draw a chart as a small SVG for a page: its text is text, in fonts of the reader's system.

    It lacks what describes each mark for screen readers, which images in a page do not tell, and
    what is smaller than a tenth of a pixel.

    **Arguments:**

    - `specification`: the chart as JSON that can be drawn.
    """
    svg = UNSEEN.sub("", UNUSED.sub("", vl_convert.vegalite_to_svg(specification)))
    short = PLACES.sub(_in_tenths, svg).replace(f' font-family="{FONT}"', "")
    return short.replace("<svg", f'<svg font-family="{PAGE_FONT}"', 1)


def _in_tenths(attribute: re.Match[str]) -> str:
    return FRACTION.sub(lambda one: f"{float(one[0]):.1f}".removesuffix(".0"), attribute[0])


def looking(spec: dict[str, Any], look: ChartLook) -> dict[str, Any]:
    """The specification of a chart in a look."""
    if look.title == "none":
        spec = without_title(spec)
    return spec if look.width_px is None else laid_out(spec, look.width_px)


def _scale(svg: str, look: ChartLook) -> float | None:
    """How many points a pixel of the drawing is; None: as many as on a screen."""
    if look.width_mm is None:
        return look.pt_per_px
    return look.width_mm / MM_PER_INCH * PT_PER_INCH / svg_width(svg)


def _sized(svg: str, pt_per_px: float, unit: Literal["mm", ""] = "") -> str:
    """Return the SVG in another size: in mm, or in points without a unit."""
    factor = pt_per_px * (MM_PER_INCH / PT_PER_INCH if unit else 1.0)

    def size(found: re.Match[str]) -> str:
        width, height = (f"{float(pixels) * factor:.6g}{unit}" for pixels in found.groups())
        return f' width="{width}" height="{height}"'

    return SIZE.sub(size, svg, count=1)
