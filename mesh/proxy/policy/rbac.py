"""Role-based access control, of HTTP requests and TCP connections alike: compiled rules, as decisions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.proxy.observe.counters import NamedCounters

# A Stream or a TcpDownstream: which one, the predicates were compiled for.
Subject = Any
Predicate = Callable[[Subject], bool]

ALLOW, DENY, LOG = range(3)
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: it matches who is in `principals` and does what is in `permissions`."""

    name: str
    permissions: Predicate
    principals: Predicate


@dataclass(frozen=True, slots=True)
class Rules:
    """`envoy.config.rbac.v3.RBAC`. Policies are asked in the order of their names, as Envoy keeps them."""

    action: int
    policies: tuple[Policy, ...]

    def judge(self, subject: Subject) -> tuple[bool, str]:
        """Whether the subject may go on, and the policy that matched, if one did."""
        for policy in self.policies:
            if policy.permissions(subject) and policy.principals(subject):
                return self.action != DENY, policy.name
        return self.action != ALLOW, ""


@dataclass(frozen=True, slots=True)
class Control:
    """What is enforced, what is only reported, and how the outcome is called in statistics and metadata."""

    rules: Rules | None
    shadow: Rules | None
    rules_prefix: str = ""
    shadow_prefix: str = ""
    tracks_policies: bool = False

    def judge(self, subject: Subject, stats: Counts) -> tuple[bool, str, dict[str, Any]]:
        """Whether the subject may go on, the policy that said so, and what dynamic metadata tells of it."""
        told: dict[str, Any] = {}
        if self.shadow is not None:
            allowed, policy = self.shadow.judge(subject)
            self._tell(told, f"{self.shadow_prefix}shadow", allowed, policy)
            stats.count("shadow_allowed" if allowed else "shadow_denied", policy if self.tracks_policies else "")
        if self.rules is None:
            return True, "", told
        allowed, policy = self.rules.judge(subject)
        self._tell(told, f"{self.rules_prefix}enforced", allowed, policy)
        stats.count("allowed" if allowed else "denied", policy if self.tracks_policies else "")
        return allowed, policy, told

    @staticmethod
    def _tell(told: dict[str, Any], prefix: str, allowed: bool, policy: str) -> None:
        if policy:
            told[f"{prefix}_effective_policy_id"] = policy
        told[f"{prefix}_engine_result"] = "allowed" if allowed else "denied"


class Counts:
    """The filter's counters, whose names hold prefixes of the configuration's."""

    __slots__ = ("_counters", "_names")

    def __init__(self, counters: NamedCounters, rules_prefix: str, shadow_prefix: str) -> None:
        self._counters = counters
        self._names = {kind: _joined(rules_prefix, kind) for kind in ("allowed", "denied")}
        self._names |= {kind: _joined(shadow_prefix, kind) for kind in ("shadow_allowed", "shadow_denied")}
        counters.declare(self._names.values())

    def count(self, kind: str, policy: str) -> None:
        self._counters.count(self._names[kind])
        if policy:
            self._counters.count(f"policy.{policy}.{kind}")


def _joined(prefix: str, name: str) -> str:
    return f"{prefix.removesuffix('.')}.{name}" if prefix else name


def denial(policy: str) -> str:
    """Envoy's response code details of a denied request."""
    return f"rbac_access_denied_matched_policy[{_SPACE.sub('_', policy) or 'none'}]"
