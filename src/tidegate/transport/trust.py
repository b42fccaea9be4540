"""Which certificate authorities are believed: the system's, and a private one where the egress names it."""

import re
import ssl
from pathlib import Path
from typing import Final

from wreq import CertStore

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def authorities(ca_cert: Path | None) -> CertStore | None:
    """``None`` where there are neither: then the client believes those it was built with.

    Raises ``OSError`` or ``ValueError`` when ``ca_cert`` cannot be read.
    """
    paths = ssl.get_default_verify_paths()
    system = _certificates(Path(paths.cafile)) if paths.cafile else []
    # A directory holds one file per authority, named by a hash, and the client looks into it when needed.
    has_directory = not system and bool(paths.capath) and any(Path(paths.capath).glob("*.0"))
    private = [] if ca_cert is None else _certificates(ca_cert)
    if ca_cert is not None and not private:
        # The client would skip what it cannot read, and the broken file show as a distrusted vendor.
        raise ValueError(f"{ca_cert} holds no certificate")
    if not system and not private and not has_directory:
        return None
    return CertStore(der_certs=[*system, *private], default_paths=has_directory)


def _certificates(path: Path) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(pem) for pem in _CERTIFICATE.findall(path.read_text("latin-1"))]
