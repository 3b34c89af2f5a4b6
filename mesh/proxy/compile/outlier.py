"""OutlierDetection to OutlierConfig."""

from __future__ import annotations

from typing import Any

from mesh.proxy.compile.values import seconds, seconds_or, value_or
from mesh.proxy.upstream.outlier import OutlierConfig
from mesh.proxy.upstream.success_rate import Comparison

SUPPORTED = {
    "envoy.config.cluster.v3.OutlierDetection": frozenset(
        ("consecutive_5xx", "interval", "base_ejection_time", "max_ejection_percent", "enforcing_consecutive_5xx",
         "enforcing_success_rate", "success_rate_minimum_hosts", "success_rate_request_volume",
         "success_rate_stdev_factor", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure",
         "split_external_local_origin_errors", "consecutive_local_origin_failure",
         "enforcing_consecutive_local_origin_failure", "enforcing_local_origin_success_rate",
         "failure_percentage_threshold", "enforcing_failure_percentage", "enforcing_failure_percentage_local_origin",
         "failure_percentage_minimum_hosts", "failure_percentage_request_volume", "max_ejection_time",
         "max_ejection_time_jitter", "successful_active_health_check_uneject_host", "always_eject_one_host")
    ),
}  # fmt: skip


def compile_outlier(cluster: Any) -> OutlierConfig | None:
    """The outlier detection of a Cluster whose fields have been checked; None without it."""
    if not cluster.HasField("outlier_detection"):
        return None
    config = cluster.outlier_detection
    base = seconds_or(config, "base_ejection_time", 30.0)
    return OutlierConfig(
        consecutive_5xx=value_or(config, "consecutive_5xx", 5),
        interval=seconds_or(config, "interval", 10.0),
        base_ejection_time=base,
        max_ejection_time=seconds_or(config, "max_ejection_time", max(300.0, base)),
        max_ejection_time_jitter=seconds(config.max_ejection_time_jitter),
        max_ejection_percent=min(value_or(config, "max_ejection_percent", 10), 100),
        enforcing_consecutive_5xx=value_or(config, "enforcing_consecutive_5xx", 100),
        consecutive_gateway_failure=value_or(config, "consecutive_gateway_failure", 5),
        enforcing_consecutive_gateway_failure=value_or(config, "enforcing_consecutive_gateway_failure", 0),
        split_external_local_origin_errors=config.split_external_local_origin_errors,
        consecutive_local_origin_failure=value_or(config, "consecutive_local_origin_failure", 5),
        enforcing_consecutive_local_origin_failure=value_or(config, "enforcing_consecutive_local_origin_failure", 100),
        always_eject_one_host=value_or(config, "always_eject_one_host", False),
        comparison=_comparison(config),
        enforcing_success_rate=value_or(config, "enforcing_success_rate", 100),
        enforcing_failure_percentage=value_or(config, "enforcing_failure_percentage", 0),
        enforcing_local_origin_success_rate=value_or(config, "enforcing_local_origin_success_rate", 100),
        enforcing_failure_percentage_local_origin=value_or(config, "enforcing_failure_percentage_local_origin", 0),
        returns_after_check=value_or(config, "successful_active_health_check_uneject_host", True),
    )


def _comparison(config: Any) -> Comparison:
    return Comparison(
        minimum_hosts=value_or(config, "success_rate_minimum_hosts", 5),
        request_volume=value_or(config, "success_rate_request_volume", 100),
        stdev_factor=value_or(config, "success_rate_stdev_factor", 1900),
        failure_threshold=value_or(config, "failure_percentage_threshold", 85),
        failure_minimum_hosts=value_or(config, "failure_percentage_minimum_hosts", 5),
        failure_request_volume=value_or(config, "failure_percentage_request_volume", 50),
    )
