"""The one upstream HTTP client: the only way out of the process, and where network trouble becomes a failure."""

from tidegate.transport.client import UpstreamTransport
from tidegate.transport.egress import Egress, Limits
from tidegate.transport.guards import check_destination
from tidegate.transport.trust import authorities

__all__ = ["Egress", "Limits", "UpstreamTransport", "authorities", "check_destination"]
