"""Routes that never match, and destinations that do not say which port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mesh.api.virtual_service import HTTPMatchRequest, HTTPRoute, StringMatch, TCPRoute, TLSRoute, VirtualService
from mesh.config.analyze.message import (
    INEFFECTIVE_MATCH,
    PORT_SELECTION_REQUIRED,
    UNREACHABLE_RULE,
    Message,
    about,
)
from mesh.config.analyze.view import Of, View, routed
from mesh.config.encode import encode

Rule = HTTPRoute | TCPRoute | TLSRoute


def destination_ports(view: View) -> Iterator[Message]:
    """IST0112: a destination with several ports, and none chosen."""
    for found in view.virtual_services:
        for target in routed(found.resource):
            service = view.services.get(target.host)
            if service is None or target.destination.port is not None or len(service.resource.spec.ports) < 2:
                continue
            ports = " ".join(str(port.port) for port in service.resource.spec.ports)
            text = f'This VirtualService routes to a host "{target.destination.host}" that exposes multiple ports '
            text += f"[{ports}]. Specifying a port in the destination is required to disambiguate."
            yield about(found.manifest, target.path, PORT_SELECTION_REQUIRED, text)


def unreachable_rules(view: View) -> Iterator[Message]:
    """IST0130 and IST0131: rules and matches that earlier ones take everything from."""
    for found in view.virtual_services:
        spec = found.resource.spec
        for field, rules in (("http", spec.http), ("tcp", spec.tcp), ("tls", spec.tls)):
            yield from _shadowed(found, field, rules)
        yield from _covered_prefixes(found, spec.http)


def _shadowed(found: Of[VirtualService], field: str, rules: Sequence[Rule]) -> Iterator[Message]:
    seen: dict[str, int] = {}
    catch_all = False
    for index, rule in enumerate(rules):
        path = ("spec", field, index)
        if catch_all:
            reason = "route without matches defined before" if rule.match else "only the last rule can have no matches"
            yield about(found.manifest, path, UNREACHABLE_RULE, _unreachable(rule, index, reason))
            continue
        catch_all = not rule.match
        repeated = 0
        for number, match in enumerate(rule.match):
            key = str(encode(_unnamed(match) if isinstance(match, HTTPMatchRequest) else match))
            earlier = seen.get(key)
            if earlier is None:
                seen[key] = index
            else:
                repeated += 1
                text = f"VirtualService rule {_name(rule, index)} match #{number} is not used "
                text += f"(duplicates a match in rule {_name(rules[earlier], earlier)})."
                yield about(found.manifest, (*path, "match", number), INEFFECTIVE_MATCH, text)
        if rule.match and repeated == len(rule.match):
            yield about(
                found.manifest, path, UNREACHABLE_RULE, _unreachable(rule, index, "all matches used by prior rules")
            )


def _unnamed(match: HTTPMatchRequest) -> HTTPMatchRequest:
    return replace(match, name="")


def _unreachable(rule: Rule, index: int, reason: str) -> str:
    return f"VirtualService rule {_name(rule, index)} not used ({reason})."


def _name(rule: Rule, index: int) -> str:
    return f'"{rule.name}"' if isinstance(rule, HTTPRoute) and rule.name else f"#{index}"


def _covered_prefixes(found: Of[VirtualService], rules: Sequence[HTTPRoute]) -> Iterator[Message]:
    """A match on a URI whose prefix an earlier match takes already, with nothing else asked for there."""
    taken: list[tuple[HTTPMatchRequest, str, int]] = []
    for index, rule in enumerate(rules):
        for number, match in enumerate(rule.match):
            uri = match.uri or StringMatch()
            value = uri.prefix or uri.exact
            covering = [
                (prefix, at)
                for other, prefix, at in taken
                if value and value.startswith(prefix) and _unnamed(match) != other
            ]
            if covering:
                prefix, at = covering[0]
                text = f"VirtualService rule {_name(rule, index)} match #{number} is not used "
                text += f"(the prefix {prefix} of rule {_name(rules[at], at)} takes {value} already)."
                yield about(found.manifest, ("spec", "http", index, "match", number), INEFFECTIVE_MATCH, text)
        taken += [
            (_unnamed(match), match.uri.prefix, index)
            for match in rule.match
            if match.uri is not None
            and match.uri.prefix
            and match == HTTPMatchRequest(name=match.name, uri=match.uri, ignore_uri_case=match.ignore_uri_case)
        ]
