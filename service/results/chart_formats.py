"""The formats of charts. The charting library is not needed here."""

from typing import Literal

Theme = Literal["light", "dark"]
ChartFormat = Literal["png", "svg", "json", "html", "csv"]
FORMATS: tuple[ChartFormat, ...] = ("png", "svg", "json", "html", "csv")
MEDIA_TYPES: dict[ChartFormat, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
}
