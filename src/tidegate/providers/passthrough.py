"""Members the gateway does not know, merged into a vendor's body on the caller's own account."""

from collections.abc import Mapping
from typing import Any, Final

# A body never steers our own transport. But the server behind a provider may itself be a gateway that obeys
# such words, with keys of its own: it would call another host, or a model the virtual key may not use.
_OURS_TO_SAY: Final = frozenset(
    {
        *("model", "models", "fallbacks", "modellist", "userconfig", "litellmparams"),
        *("stream", "streamoptions", "background"),
        *("url", "uri", "baseurl", "apibase", "apiurl", "apihost", "serverurl", "proxyurl", "callbackurl"),
        *(
            "endpoint",
            "apiendpoint",
            "endpointurl",
            "azureendpoint",
            "customendpoint",
            "apiversion",
            "apitype",
        ),
        *("host", "hostname", "customhost", "origin", "customproviderconfig", "customllmprovider"),
        *("proxy", "proxies", "httpproxy", "httpsproxy", "socketpath", "transport", "client", "httpclient"),
        *("header", "headers", "extraheaders", "defaultheaders", "customheaders", "cookies"),
        *("extrabody", "extraquery", "defaultquery", "querystring"),
        *("key", "apikey", "apikeys", "virtualkey", "accesskey", "secret", "secretkey", "password"),
        *("auth", "authorization", "bearertoken", "accesstoken", "authtoken", "azureadtoken", "credentials"),
        *("organization", "project", "awsaccesskeyid", "awssecretaccesskey", "awssessiontoken"),
        *("awsregionname", "awsprofilename", "awsrolename", "awsbedrockruntimeendpoint"),
        *("awsstsendpoint", "vertexproject", "vertexlocation", "vertexcredentials", "gcscredentials"),
        *("verify", "verifyssl", "sslverify", "cacert", "cert", "clientcert"),
    }
)


def merge_extra(members: dict[str, Any], extra: Mapping[str, Any]) -> list[str]:
    """Add ``extra`` to ``members`` and name what was refused. What is already there wins, at every depth."""
    refused = []
    for name, value in extra.items():
        if is_ours_to_say(name):
            refused.append(name)
        else:
            members[name] = _merged(members[name], value) if name in members else value
    return refused


def is_ours_to_say(name: str) -> bool:
    """Whether the word steers a request rather than a model, however it is spelled."""
    return name.lower().replace("_", "").replace("-", "") in _OURS_TO_SAY


def _merged(ours: Any, theirs: Any) -> Any:
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return ours
    merged = {name: _merged(mine, theirs.get(name)) for name, mine in ours.items()}
    return merged | {name: value for name, value in theirs.items() if name not in ours}
