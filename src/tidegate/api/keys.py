"""Administration of virtual keys: ``/api/governance/virtual-keys`` (contract §2.5, §5.5)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, final
from urllib.parse import unquote

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.api.answers import NO_STORE, Answer, compact, json_answer
from tidegate.api.inbound import Inbound
from tidegate.api.views import optional_timestamp, timestamp
from tidegate.api.wire import convert, decode_json
from tidegate.domain.access import AdminCaller, Caller, KeyId, ProviderGrant, VirtualKey
from tidegate.domain.errors import ErrorCode, InvalidRequest
from tidegate.domain.secret import Secret
from tidegate.services.manage_keys import KeyChanges, ManageKeys

_LIST_QUERY: Final = ("limit", "offset", "search")
_LONGEST_PAGE: Final = 200
_BODY_LIMIT: Final = 2**20
_LARGEST_WEIGHT: Final = 1_000
_LARGEST_ROUTING_WEIGHT: Final = 1_000_000
_LONGEST_TTL: Final = 30 * 24 * 3600
# Members of the contract that this version does not build: a limit that is not kept must not be accepted.
_NOT_BUILT: Final = {
    "": ("budget", "rate_limit"),
    "async": ("max_pending", "max_running"),
    "provider_configs": ("budget", "rate_limit"),
}


class GrantBody(Struct, forbid_unknown_fields=True):
    """What a key may use at one provider."""

    provider: str
    allowed_models: list[str] = []
    weight: float | None = None
    key_ids: list[str] | None = None


class AsyncBody(Struct, forbid_unknown_fields=True):
    """Limits of the key's jobs."""

    weight: Annotated[float | None, Meta(description="Share when keys compete, above 0; default 1")] = None
    priority_ceiling: Annotated[int | None, Meta(description="Best priority number, 1 to 5")] = None
    result_ttl_max: Annotated[int | None, Meta(description="Longest result lifetime in seconds")] = None


class KeyBody(Struct, rename={"async_": "async"}, forbid_unknown_fields=True):
    """Body of create and update; ``name`` is required on create."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    is_active: bool | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    provider_configs: list[GrantBody] | UnsetType | None = UNSET
    async_: AsyncBody | UnsetType | None = UNSET


@final
class VirtualKeys:
    """Handlers of the admin routes."""

    def __init__(self, manage: ManageKeys) -> None:
        self._manage = manage

    async def list(self, inbound: Inbound, caller: Caller) -> Answer:
        query = inbound.query(_LIST_QUERY)
        limit = _integer(_single(query, "limit", "50"), "limit", 1, _LONGEST_PAGE)
        offset = _integer(_single(query, "offset", "0"), "offset", 0, 10**9)
        prefix = _single(query, "search", "")
        keys, total = await self._manage.page(limit=limit, offset=offset, name_prefix=prefix)
        return json_answer(
            200,
            {
                "virtual_keys": [key_view(key) for key in keys],
                "count": len(keys),
                "total_count": total,
                "limit": limit,
                "offset": offset,
            },
            NO_STORE,
        )

    async def create(self, inbound: Inbound, caller: Caller) -> Answer:
        changes = await _changes(inbound)
        if changes.name is UNSET:
            raise InvalidRequest(ErrorCode.MISSING_REQUIRED_PARAMETER, "'name' is required", param="name")
        made = await self._manage.create(changes, _actor(caller))
        return _with_secret(201, "virtual key created; its value is not shown again", made.key, made.secret)

    async def get(self, inbound: Inbound, caller: Caller) -> Answer:
        inbound.query(())
        key = await self._manage.get(_key_id(inbound))
        return json_answer(200, {"virtual_key": key_view(key)}, NO_STORE)

    async def update(self, inbound: Inbound, caller: Caller) -> Answer:
        changes = await _changes(inbound)
        key = await self._manage.update(_key_id(inbound), changes, _actor(caller))
        return json_answer(200, {"message": "virtual key updated", "virtual_key": key_view(key)}, NO_STORE)

    async def delete(self, inbound: Inbound, caller: Caller) -> Answer:
        choice = _single(inbound.query(("cancel_jobs",)), "cancel_jobs", "false")
        if choice not in {"true", "false"}:
            raise _invalid_query("cancel_jobs", "expected true or false")
        key = await self._manage.delete(_key_id(inbound), _actor(caller), cancels_jobs=choice == "true")
        return json_answer(200, {"message": "virtual key deleted", "virtual_key": key_view(key)}, NO_STORE)

    async def rotate(self, inbound: Inbound, caller: Caller) -> Answer:
        inbound.query(())
        made = await self._manage.rotate(_key_id(inbound), _actor(caller))
        return _with_secret(200, "virtual key rotated; its value is not shown again", made.key, made.secret)


def key_view(key: VirtualKey) -> dict[str, Any]:
    return compact({
        "id": key.id,
        "name": key.name,
        "description": key.description,
        "is_active": key.is_active,
        "expires_at": optional_timestamp(key.expires_at),
        "value_hint": key.value_hint,
        "provider_configs": None if key.grants is None else [_grant_view(grant) for grant in key.grants],
        "async": compact({
            "weight": key.weight,
            "priority_ceiling": key.priority_ceiling,
            "result_ttl_max": key.result_ttl_max,
        }),
        "created_at": timestamp(key.created_at),
        "updated_at": timestamp(key.updated_at),
    })  # fmt: skip


def _grant_view(grant: ProviderGrant) -> dict[str, Any]:
    return compact({
        "provider": grant.provider,
        "weight": grant.weight,
        "allowed_models": grant.allowed_models,
        "key_ids": grant.key_ids,
    })  # fmt: skip


def _with_secret(status: int, message: str, key: VirtualKey, secret: Secret) -> Answer:
    view = key_view(key) | {"value": secret.reveal()}
    return json_answer(status, {"message": message, "virtual_key": view}, NO_STORE)


async def _changes(inbound: Inbound) -> KeyChanges:
    inbound.query(())
    inbound.check_body_headers(_BODY_LIMIT)
    value = decode_json(await inbound.body(_BODY_LIMIT))
    _refuse_what_is_not_built(value)
    return _checked(convert(value, KeyBody))


def _refuse_what_is_not_built(value: Any) -> None:
    if not isinstance(value, dict):
        return
    grants = value.get("provider_configs")
    places: list[tuple[str, str, Any]] = [("", "", value), ("async", "async.", value.get("async"))]
    places += [
        ("provider_configs", f"provider_configs[{index}].", grant)
        for index, grant in enumerate(grants if isinstance(grants, list) else ())
    ]
    for place, prefix, members in places:
        for name in _NOT_BUILT[place]:
            if isinstance(members, dict) and members.get(name) is not None:
                raise InvalidRequest(
                    ErrorCode.UNKNOWN_FIELD,
                    f"'{prefix}{name}' is not supported by this version: leave it out",
                    param=f"{prefix}{name}",
                )


def _checked(body: KeyBody) -> KeyChanges:
    if isinstance(body.name, str) and not 1 <= len(body.name) <= 128:
        raise InvalidRequest(ErrorCode.OUT_OF_RANGE, "'name' must have 1 to 128 characters", param="name")
    limits = body.async_ if isinstance(body.async_, AsyncBody) else AsyncBody()
    _check_limits(limits)
    resets = body.async_ is None
    return KeyChanges(
        name=body.name if isinstance(body.name, str) else UNSET,
        description=(body.description or "") if body.description is not UNSET else UNSET,
        is_active=body.is_active if isinstance(body.is_active, bool) else UNSET,
        expires_at=_in_utc(body.expires_at),
        grants=_grants(body.provider_configs),
        weight=_given(limits.weight, 1.0, resets=resets),
        priority_ceiling=_given(limits.priority_ceiling, 1, resets=resets),
        result_ttl_max=_given(limits.result_ttl_max, None, resets=resets),
    )


def _given(value: Any, default: Any, *, resets: bool) -> Any:
    """What to set: the value sent, the default if ``null`` took all limits away, else nothing."""
    if value is not None:
        return value
    return default if resets else UNSET


def _check_limits(limits: AsyncBody) -> None:
    if limits.weight is not None and not 0 < limits.weight <= _LARGEST_WEIGHT:
        raise _out_of_range("async.weight", f"above 0 and at most {_LARGEST_WEIGHT}", limits.weight)
    if limits.priority_ceiling is not None and not 1 <= limits.priority_ceiling <= 5:
        raise _out_of_range("async.priority_ceiling", "between 1 and 5", limits.priority_ceiling)
    if limits.result_ttl_max is not None and not 1 <= limits.result_ttl_max <= _LONGEST_TTL:
        raise _out_of_range("async.result_ttl_max", f"between 1 and {_LONGEST_TTL}", limits.result_ttl_max)


def _out_of_range(name: str, allowed: str, found: float) -> InvalidRequest:
    return InvalidRequest(ErrorCode.OUT_OF_RANGE, f"'{name}' must be {allowed}, got {found}", param=name)


def _in_utc(moment: datetime | UnsetType | None) -> datetime | UnsetType | None:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise _invalid_expiry("must carry an offset, such as Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise _invalid_expiry("lies outside the years 1 to 9999") from exc


def _invalid_expiry(problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_VALUE, f"'expires_at' {problem}", param="expires_at")


def _grants(
    bodies: list[GrantBody] | UnsetType | None,
) -> tuple[ProviderGrant, ...] | UnsetType | None:
    if bodies is None or bodies is UNSET:
        return None if bodies is None else UNSET
    for index, body in enumerate(bodies):
        _check_grant(body, f"provider_configs[{index}]", bodies[:index])
    return tuple(
        ProviderGrant(
            provider=body.provider,
            allowed_models=tuple(body.allowed_models),
            weight=body.weight,
            key_ids=tuple(body.key_ids) if body.key_ids is not None else None,
        )
        for body in bodies
    )


def _check_grant(body: GrantBody, path: str, earlier: Sequence[GrantBody]) -> None:
    """One entry for each provider: a second one would have no effect."""
    if any(body.provider == other.provider for other in earlier):
        raise InvalidRequest(
            ErrorCode.INVALID_VALUE,
            f"'{path}.provider' repeats \"{body.provider}\"",
            param=f"{path}.provider",
        )
    if body.weight is not None and not 0 <= body.weight <= _LARGEST_ROUTING_WEIGHT:
        raise _out_of_range(f"{path}.weight", f"between 0 and {_LARGEST_ROUTING_WEIGHT}", body.weight)


def _key_id(inbound: Inbound) -> KeyId:
    """An id from the configuration may hold characters that a path cannot."""
    return KeyId(unquote(inbound.path_id))


def _actor(caller: Caller) -> str:
    return caller.subject if isinstance(caller, AdminCaller) else ""


def _single(query: Mapping[str, Sequence[str]], name: str, default: str) -> str:
    values = query.get(name, [default])
    if len(values) > 1:
        raise _invalid_query(name, "expected to be given once")
    return values[0]


def _integer(text: str, name: str, low: int, high: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    if not is_number or not low <= int(text) <= high:
        raise _invalid_query(name, f"expected an integer from {low} to {high}")
    return int(text)


def _invalid_query(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_QUERY_PARAMETER, f"invalid {name}: {problem}", param=name)
