"""Checks of a drill file, one file a family. Each is a frozen dataclass from YAML that measures and judges itself.

MUST NOT change the mesh's configuration: that is what a phase's overlay is for.
"""

from chaos.checks.connection import Connection
from chaos.checks.ejection import Ejection
from chaos.checks.metric import MetricIncrease
from chaos.checks.overflow import Overflow
from chaos.checks.responses import Responses
from chaos.checks.rotation import Rotation
from chaos.checks.split import PredictedSplit, SampledSplit

AnyCheck = PredictedSplit | SampledSplit | Responses | MetricIncrease | Connection | Rotation | Overflow | Ejection

__all__ = [
    "AnyCheck",
    "Connection",
    "Ejection",
    "MetricIncrease",
    "Overflow",
    "PredictedSplit",
    "Responses",
    "Rotation",
    "SampledSplit",
]
