"""Catalogue of findings: questions about sparsity, each with the study that answers it.

A finding is one class in one file. Its study is the preset of its name, so that anyone can run it
again; what is read off the results is computed here, and the service draws and writes it.
"""

from ffengine.findings.activations import Activations
from ffengine.findings.acts import Acts
from ffengine.findings.backpropagation import Backpropagation
from ffengine.findings.centering import Centering
from ffengine.findings.collapse import Collapse
from ffengine.findings.condensation import Condensation
from ffengine.findings.depth import Depth
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table, Tile
from ffengine.findings.forecast import Forecast
from ffengine.findings.geometry import Geometry
from ffengine.findings.goodness import Goodness
from ffengine.findings.negatives import Negatives
from ffengine.findings.onset import Onset
from ffengine.findings.scale import Scale
from ffengine.findings.selective import Selective
from ffengine.findings.sleep import Sleep
from ffengine.findings.width import Width

__all__ = ["FINDINGS", "Finding", "Plot", "Point", "Rule", "Run", "Table", "Tile"]

# in the order in which a newcomer reads them
FINDINGS: dict[str, Finding] = {
    finding.name: finding
    for finding in (
        Acts(),
        Onset(),
        Centering(),
        Collapse(),
        Condensation(),
        Width(),
        Geometry(),
        Goodness(),
        Selective(),
        Scale(),
        Negatives(),
        Depth(),
        Sleep(),
        Activations(),
        Backpropagation(),
        Forecast(),
    )
}
