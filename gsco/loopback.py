"""Addresses that only this machine reaches."""

from ipaddress import ip_address

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine for itself, as browsers send them."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
