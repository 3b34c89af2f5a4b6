"""A message of the analysis, and the table of codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from mesh.config.decode import Manifest
from mesh.config.problems import Path, Problem, format_path


class Severity(IntEnum):
    """The worse the greater."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def title(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Code:
    """`id` is what users search for; `name` is Istio's for it."""

    id: str
    name: str
    severity: Severity


REFERENCED_RESOURCE_NOT_FOUND = Code("IST0101", "ReferencedResourceNotFound", Severity.ERROR)
SCHEMA_VALIDATION_ERROR = Code("IST0106", "SchemaValidationError", Severity.ERROR)
CONFLICTING_MESH_GATEWAY_HOSTS = Code("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Severity.ERROR)
PORT_SELECTION_REQUIRED = Code("IST0112", "VirtualServiceDestinationPortSelectorRequired", Severity.ERROR)
PORT_NAME_NOT_UNDER_CONVENTION = Code("IST0118", "PortNameIsNotUnderNamingConvention", Severity.INFO)
NO_MATCHING_WORKLOADS = Code("IST0127", "NoMatchingWorkloadsFound", Severity.WARNING)
NO_SERVER_CERTIFICATE_CHECK_HOST = Code("IST0128", "NoServerCertificateVerificationDestinationLevel", Severity.ERROR)
NO_SERVER_CERTIFICATE_CHECK_PORT = Code("IST0129", "NoServerCertificateVerificationPortLevel", Severity.ERROR)
UNREACHABLE_RULE = Code("IST0130", "VirtualServiceUnreachableRule", Severity.WARNING)
INEFFECTIVE_MATCH = Code("IST0131", "VirtualServiceIneffectiveMatch", Severity.INFO)
HOST_NOT_IN_GATEWAY = Code("IST0132", "VirtualServiceHostNotFoundInGateway", Severity.WARNING)
DUPLICATE_CERTIFICATE = Code("IST0138", "GatewayDuplicateCertificate", Severity.WARNING)
SUBSET_INEFFECTIVE_AT_INGRESS = Code("IST0140", "IngressRouteRulesNotAffected", Severity.WARNING)
CONFLICTING_GATEWAYS = Code("IST0145", "ConflictingGateways", Severity.ERROR)
GATEWAY_PORT_NOT_ON_SERVICE = Code("IST0162", "GatewayPortNotDefinedOnService", Severity.WARNING)
SUBSET_SELECTS_NO_PODS = Code("IST0173", "DestinationRuleSubsetNotSelectPods", Severity.ERROR)
UNKNOWN_DESTINATION_HOST = Code("IST0174", "UnknownDestinationRuleHost", Severity.WARNING)
OUTLIER_DETECTION_NEVER_EJECTS = Code("MD0001", "OutlierDetectionNeverEjects", Severity.WARNING)


@dataclass(frozen=True, slots=True)
class Message:
    """One finding. `resource` is `Kind namespace/name`; `path` the field, empty for the whole object."""

    code: Code
    text: str
    resource: str = ""
    path: str = ""
    file: str = ""
    line: int | None = None

    @property
    def severity(self) -> Severity:
        return self.code.severity

    @property
    def location(self) -> str:
        """`file.yaml:12`, as far as known."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    def __str__(self) -> str:
        origin = " ".join(part for part in (self.resource, self.location) if part)
        return f"{self.severity.title} [{self.code.id}]{f' ({origin})' if origin else ''} {self.text}"


def about(manifest: Manifest, path: Path, code: Code, text: str) -> Message:
    """A message about a field of an object."""
    source = manifest.source
    return Message(code, text, str(manifest), format_path(path), source.file, source.line(path))


def of_problems(problems: Iterable[Problem]) -> Iterable[Message]:
    """What decoding and validation refused, as IST0106."""
    for problem in problems:
        text = ": ".join(part for part in ("Schema validation error", problem.path, problem.message) if part)
        yield Message(SCHEMA_VALIDATION_ERROR, text, problem.resource, problem.path, problem.file, problem.line)


def in_order(messages: Iterable[Message]) -> tuple[Message, ...]:
    """By file and line where known, the rest after them; then by resource, path and code."""
    unique = dict.fromkeys(messages)
    return tuple(sorted(unique, key=lambda m: (not m.file, m.file, m.line or 0, m.resource, m.path, m.code.id, m.text)))
