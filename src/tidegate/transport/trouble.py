"""From what the network and the client did to us to a failure. No address, URL or header gets into a message."""

import re
from typing import Final

from wreq import exceptions as wreq

from tidegate.domain.failures import Failure, FailureCode
from tidegate.transport.patience import Patience

_BEFORE_SENDING: Final = (wreq.ConnectionError, wreq.ProxyConnectionError)
TROUBLE: Final = (
    *_BEFORE_SENDING,
    wreq.BodyError,
    wreq.ConnectionResetError,
    wreq.DecodingError,
    wreq.RequestError,
    wreq.TimeoutError,
    wreq.TlsError,
    wreq.UpgradeError,  # what the client raises when it knows no better
)

# The client has one exception for all that goes wrong while connecting; its text tells what.
_NAME_UNKNOWN: Final = "dns error"
_HANDSHAKE: Final = re.compile(r"code: [A-Z]+ \(")
_BROKE_OFF: Final = "netty::Error"


def failure_of(error: Exception, provider: str, status: int | None) -> Failure:
    """``status`` is the vendor's, once its headers have come."""
    if isinstance(error, _BEFORE_SENDING):
        return _not_reached(provider, _step_of(error))
    if isinstance(error, wreq.DecodingError) and _BROKE_OFF not in str(error):
        return Failure(
            FailureCode.INVALID_RESPONSE,
            f'provider "{provider}" sent an unusable response',
            upstream_status=status,
            was_sent=True,
        )
    return _not_reached(provider, "reset", status, was_sent=True)


def _step_of(error: Exception) -> str:
    if isinstance(error, wreq.ProxyConnectionError):
        return "proxy"
    text = str(error)
    if _NAME_UNKNOWN in text:
        return "dns"
    return "tls" if _HANDSHAKE.search(text) else "connect"


def _not_reached(provider: str, step: str, status: int | None = None, *, was_sent: bool = False) -> Failure:
    return Failure(
        FailureCode.CONNECTION_FAILED,
        f'could not reach provider "{provider}" ({step})',
        upstream_status=status,
        was_sent=was_sent,
    )


def no_answer(provider: str, patience: Patience, status: int | None) -> Failure:
    seconds = round(patience.limit.total_seconds(), 1)
    return Failure(
        FailureCode.TIMEOUT,
        f'provider "{provider}" did not answer within {seconds:g} s{" (idle)" if patience.is_for_silence else ""}',
        upstream_status=status,
        was_sent=True,
    )


def too_large(provider: str, limit: int, status: int | None) -> Failure:
    return Failure(
        FailureCode.RESPONSE_TOO_LARGE,
        f'response of provider "{provider}" exceeds {limit} bytes',
        upstream_status=status,
        was_sent=True,
    )
