"""Who a workload is: its SPIFFE identity, and the pod that claims it."""

from __future__ import annotations

from dataclasses import dataclass

TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """A service account of the mesh, the `source.principal` of Istio's policies."""

    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        """The SPIFFE ID, in Istio's layout."""
        return f"spiffe://{TRUST_DOMAIN}/ns/{self.namespace}/sa/{self.service_account}"


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What a workload token proves: this pod, and the service account it runs as."""

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str

    @property
    def workload(self) -> WorkloadIdentity:
        return WorkloadIdentity(self.namespace, self.service_account)
