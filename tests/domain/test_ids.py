"""UUIDv7 with nothing but time and chance in it."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.ids import NIL, epoch_ms, is_uuid, uuid7

NOW = datetime(2026, 3, 2, 9, 15, 4, 123000, UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 – the zone is added
NOISE = st.binary(min_size=10, max_size=10)


def test_it_is_what_rfc_9562_describes() -> None:
    found = uuid.UUID(uuid7(NOW, b"\xff" * 10))

    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert str(found) == "019cadd4-663b-7fff-bfff-ffffffffffff"


@given(MOMENTS, NOISE)
def test_it_carries_the_millisecond_and_every_random_bit(now: datetime, noise: bytes) -> None:
    value = uuid.UUID(uuid7(now, noise)).int

    assert value >> 80 == epoch_ms(now)
    digits = f"{value:032x}"
    assert digits[13:16] + digits[17:] == noise.hex()[:18]
    assert int(digits[16], 16) & 3 == noise[9] & 3


@given(MOMENTS, NOISE, NOISE)
def test_a_later_one_sorts_behind(now: datetime, first: bytes, second: bytes) -> None:
    later = now + timedelta(milliseconds=1)

    assert uuid7(now, first) < uuid7(later, second)


@given(MOMENTS, NOISE)
def test_it_is_recognised(now: datetime, noise: bytes) -> None:
    assert is_uuid(uuid7(now, noise))


def test_the_nil_uuid_is_one_and_no_job_has_it() -> None:
    assert is_uuid(NIL)
    assert uuid7(datetime(1970, 1, 1, tzinfo=UTC), b"\0" * 10) != NIL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "019CADD4-663B-7FFF-BFFF-FFFFFFFFFFFF",
        "019cadd4663b7fffbfffffffffffffff",
        "{019cadd4-663b-7fff-bfff-ffffffffffff}",
        "019cadd4-663b-7fff-bfff-ffffffffffff\n",
        " 019cadd4-663b-7fff-bfff-ffffffffffff",
        "019cadd4-663b-7fff-bfff-fffffffffffg",
        "019cadd4-663b-7fff-bfff-fffffffffff",
        "019cadd4-663b-7fff-bfff-fffffffffffff",
        "٠19cadd4-663b-7fff-bfff-ffffffffffff",
    ],
    ids=repr,
)
def test_other_text_is_no_id(text: str) -> None:
    assert not is_uuid(text)


def test_milliseconds_are_rounded_to_the_nearest() -> None:
    assert epoch_ms(datetime(1970, 1, 1, 0, 0, 1, 234567, UTC)) == 1235
