"""The formats of charts. The charting library is not needed here."""

from typing import Literal

ChartFormat = Literal["png", "svg", "json", "html"]
FORMATS: tuple[ChartFormat, ...] = ("png", "svg", "json", "html")
MEDIA_TYPES: dict[ChartFormat, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}
