"""From the ``model`` string of a request to the candidates a job may run on (contract §9.1)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct

from tidegate.domain.access import VirtualKey, refusal, usable_key_ids
from tidegate.domain.errors import ErrorCode, Forbidden, InvalidRequest, Overloaded, too_many
from tidegate.domain.inference import Candidate, ProviderKey, RequestType
from tidegate.domain.retry import RetryPolicy

MOST_FALLBACKS: Final = 10
REFUSAL_MESSAGES: Final = {
    "provider_blocked": "provider '{provider}' is not allowed for this virtual key",
    "model_blocked": "model '{model}' is not allowed for this virtual key",
}


class ProviderSetup(Struct, frozen=True):
    """One configured provider: which dialect, where, with which keys and limits."""

    name: str
    dialect: str
    base_url: str
    keys: tuple[ProviderKey, ...]
    operations: frozenset[RequestType]
    retry: RetryPolicy = RetryPolicy()
    call_timeout: timedelta = timedelta(seconds=600)
    concurrency: int = 256
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    needs_key: bool = True

    def lists(self, model: str) -> bool:
        return any(key.serves(model) for key in self.keys)

    def names(self, model: str) -> bool:
        """Whether a key lists the model by name: a wildcard would draw every typing error to itself."""
        return any(model in key.models for key in self.keys)

    def usable_keys(self, model: str, allowed_ids: Sequence[str] | None) -> list[ProviderKey]:
        return [
            key
            for key in self.keys
            if key.is_enabled
            and (key.value is not None or not self.needs_key)
            and key.serves(model)
            and (allowed_ids is None or key.id in allowed_ids)
        ]


class Catalog(Struct, frozen=True):
    """What this gateway can reach. ``known`` also names dialects that exist but are not configured."""

    providers: Mapping[str, ProviderSetup]
    known: frozenset[str]

    def split(self, model: str) -> Candidate | None:
        """``provider/model`` if the part before the first slash is exactly a known provider."""
        provider, slash, rest = model.partition("/")
        if slash and (provider in self.known or provider in self.providers):
            return Candidate(provider, rest)
        return None


def resolve(
    catalog: Catalog,
    model: str,
    fallbacks: Sequence[str] | None,
    key: VirtualKey | None,
    chance: float,
) -> tuple[Candidate, ...]:
    """The primary and its fallbacks in order. ``chance`` in [0, 1) decides weighted routing.

    Raises ``InvalidRequest`` for a model or fallback whose provider cannot be told, and for too many of them.
    """
    primary, others = _primary(catalog, model, key, chance)
    if fallbacks is None:
        return (primary, *others)
    if len(fallbacks) > MOST_FALLBACKS:
        raise too_many("fallbacks", MOST_FALLBACKS, len(fallbacks))
    return (primary, *(_fallback(catalog, index, text) for index, text in enumerate(fallbacks)))


def _primary(
    catalog: Catalog, model: str, key: VirtualKey | None, chance: float
) -> tuple[Candidate, list[Candidate]]:
    named = catalog.split(model)
    if named is not None:
        if not named.model:
            raise InvalidRequest(ErrorCode.MISSING_REQUIRED_PARAMETER, "model is required", param="model")
        return named, []
    routed = _weighted_route(catalog, model, key, chance)
    if routed:
        return routed[0], routed[1:]
    for provider in catalog.providers.values():
        if provider.names(model):
            return Candidate(provider.name, model), []
    raise InvalidRequest(
        ErrorCode.PROVIDER_UNRESOLVED,
        "provider is required in model field (format: provider/model): "
        f'no provider found for model "{model}"',
        param="model",
    )


def _weighted_route(catalog: Catalog, model: str, key: VirtualKey | None, chance: float) -> list[Candidate]:
    """A weighted random choice among the key's providers, then the others, highest weight first."""
    grants = [
        (grant.weight, grant.provider)
        for grant in (key.grants if key is not None and key.grants is not None else ())
        if grant.weight is not None
        and grant.weight > 0
        and grant.allows_model(model)
        and grant.provider in catalog.providers
        and catalog.providers[grant.provider].lists(model)
    ]
    if not grants:
        return []
    chosen = weighted_choice([weight for weight, _ in grants], chance)
    rest = sorted(grants[:chosen] + grants[chosen + 1 :], key=lambda grant: -grant[0])
    return [Candidate(provider, model) for _, provider in [grants[chosen], *rest]]


def weighted_choice(weights: Sequence[float], chance: float) -> int:
    """Index of the choice; uniform when all weights are zero."""
    if len(weights) == 1:
        return 0
    total = sum(weights)
    if total <= 0:
        return int(chance * len(weights))
    point = chance * total
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1


def _fallback(catalog: Catalog, index: int, text: str) -> Candidate:
    candidate = catalog.split(text)
    if candidate is None or not candidate.model:
        raise InvalidRequest(
            ErrorCode.PROVIDER_UNRESOLVED,
            f'fallbacks[{index}] must be provider/model with a known provider, got "{text}"',
            param=f"fallbacks[{index}]",
        )
    return candidate


def check_available(
    catalog: Catalog, candidates: Sequence[Candidate], request_type: RequestType, key: VirtualKey | None
) -> None:
    """Every candidate can be served and one has a usable key (contract §3, step 9).

    Raises ``InvalidRequest`` naming the first candidate at fault, or ``Overloaded``.
    """
    has_usable_key = False
    for position, candidate in enumerate(candidates):
        setup = _setup_for(catalog, candidate, request_type, _param(position))
        if setup.usable_keys(candidate.model, usable_key_ids(key, candidate.provider)):
            has_usable_key = True
        elif not setup.lists(candidate.model):
            raise _not_found(candidate, _param(position))
    if has_usable_key:
        return
    primary = candidates[0]
    raise Overloaded(
        ErrorCode.NO_ELIGIBLE_KEYS,
        no_eligible_keys_message(primary),
        retry_after=timedelta(seconds=60),
        provider=primary.provider,
    )


def check_allowed(candidates: Sequence[Candidate], key: VirtualKey | None) -> None:
    """The virtual key may use every candidate (contract §3, step 10).

    Raises ``Forbidden`` naming the first candidate at fault.
    """
    for position, candidate in enumerate(candidates):
        reason = refusal(key, candidate.provider, candidate.model)
        if reason is not None:
            raise Forbidden(
                ErrorCode(reason),
                REFUSAL_MESSAGES[reason].format(provider=candidate.provider, model=candidate.model),
                param=_param(position),
                provider=candidate.provider,
            )


def _setup_for(
    catalog: Catalog, candidate: Candidate, request_type: RequestType, param: str
) -> ProviderSetup:
    setup = catalog.providers.get(candidate.provider)
    if setup is None:
        raise InvalidRequest(
            ErrorCode.PROVIDER_NOT_CONFIGURED,
            f'provider "{candidate.provider}" is not configured',
            param=param,
            provider=candidate.provider,
        )
    if request_type not in setup.operations:
        raise InvalidRequest(
            ErrorCode.UNSUPPORTED_OPERATION,
            unsupported_operation_message(request_type, setup.name),
            param=param,
            provider=setup.name,
        )
    return setup


def _not_found(candidate: Candidate, param: str) -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.MODEL_NOT_FOUND,
        f'model "{candidate.model}" is not available at provider "{candidate.provider}"',
        param=param,
        provider=candidate.provider,
    )


def unsupported_operation_message(request_type: RequestType, provider: str) -> str:
    return f'{request_type} is not supported by provider "{provider}"'


def no_eligible_keys_message(candidate: Candidate) -> str:
    return f'no usable key for model "{candidate.model}" at provider "{candidate.provider}"'


def _param(position: int) -> str:
    return "model" if position == 0 else f"fallbacks[{position - 1}]"
