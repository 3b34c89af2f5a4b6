"""Metrics derived from what proxies report, for engines that do not speak Istio's metrics themselves."""
