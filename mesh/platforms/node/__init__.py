"""The node: kubelet and deployment controller in one, over any platform.

Watches what the control plane holds and makes the platform run it. MUST NOT know how a platform runs a pod.
"""
