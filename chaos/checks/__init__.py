"""Checks of a drill file, one file a family. Each is a frozen dataclass from YAML that measures and judges itself.

MUST NOT change the mesh's configuration: that is what a phase's overlay is for.
"""

from chaos.checks.breaker import Ejection, Overflow
from chaos.checks.connection import Connection, Rotation
from chaos.checks.metric import MetricIncrease
from chaos.checks.responses import Responses
from chaos.checks.split import PredictedSplit, SampledSplit

AnyCheck = PredictedSplit | SampledSplit | Responses | MetricIncrease | Connection | Rotation | Overflow | Ejection

__all__ = ["AnyCheck"]
