"""Which proxy leads to an endpoint.

Guarantees: this machine's own addresses are reached directly, whatever the environment says.
"""

from __future__ import annotations

import ipaddress
import urllib.request

from verl.errors import UserError


class ProxyError(UserError):
    """A proxy in the environment that cannot be used."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or address.is_unspecified


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy's URL by ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; None for none. Raises
    :class:`ProxyError` if it is not an HTTP proxy."""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    name = scheme if proxies.get(scheme) else "all"
    proxy = proxies.get(name)
    if not proxy:
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    if not url.startswith(("http://", "https://")):
        kind = url.partition("://")[0]
        raise ProxyError(
            f"{name.upper()}_PROXY names a {kind} proxy for {host}; only http and https proxies "
            f"can be used: change it, or add {host} to NO_PROXY"
        )
    return url
