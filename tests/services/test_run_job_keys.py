"""Which of our keys a call uses: refused ones are dead for the job, limited ones rest, weights decide the rest."""

from collections import Counter
from typing import Any

import pytest

from support.attempts import (
    OK,
    QUOTA,
    Answer,
    Bench,
    SteadyRng,
    a_key,
    a_provider,
    a_virtual_key,
    error_of,
    refusal,
    result_of,
    seconds,
)
from support.fakes import SeededRng
from tidegate.domain.access import ProviderGrant
from tidegate.domain.inference import Call
from tidegate.domain.jobs import Outcome, Postponed
from tidegate.domain.retry import RetryPolicy

pytestmark = pytest.mark.anyio

FIRST = SteadyRng(0.0)
"""Always takes the first of several keys, and never waits before a retry."""
PATIENT = a_provider("openai", a_key("a"), a_key("b"), retry=RetryPolicy(max_retries=5))


def with_keys(*names: str, **members: Any) -> Bench:
    return Bench(a_provider("openai", *map(a_key, names), **members), rng=FIRST)


# Refused keys


@pytest.mark.parametrize(
    "answer", [refusal(401), refusal(402), refusal(403), QUOTA], ids=["401", "402", "403", "quota 429"]
)
async def test_a_refused_key_is_followed_by_the_next_at_once(answer: Answer) -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(answer, OK)

    ending, calls = await bench.attempt()

    result_of(ending)
    assert bench.vendors.keys == ["sk-a", "sk-b"]
    assert bench.clock.slept == []
    assert (calls[0].key, calls[0].error_code, calls[0].billing) == ("a", "upstream_key_refused", "none")


async def test_a_refused_key_uses_up_no_retry() -> None:
    bench = with_keys("a", "b", "c", "d", "e", retry=RetryPolicy(max_retries=0))
    bench.vendors.will(*[refusal(401)] * 4, OK)

    result_of((await bench.attempt())[0])

    assert bench.vendors.keys == ["sk-a", "sk-b", "sk-c", "sk-d", "sk-e"]


async def test_a_refusal_between_retries_leaves_their_number_alone() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(503), refusal(401), refusal(503), refusal(503))

    ending, calls = await bench.attempt()

    assert [call.status_code for call in calls] == [503, 401, 503, 503]
    assert isinstance(ending, Postponed)


async def test_when_every_key_was_refused_the_credentials_are_exhausted() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(401))

    ending, calls = await bench.attempt()

    found = error_of(ending)
    assert (found.code, found.status_code) == ("upstream_credentials_exhausted", 502)
    assert (found.message, found.outcome) == (
        'every key of provider "openai" was refused',
        Outcome.PROVIDER_ERROR,
    )
    assert [(call.key, call.error_code) for call in calls] == [
        ("a", "upstream_key_refused"),
        ("b", "upstream_key_refused"),
    ]


async def test_exhausted_credentials_lead_to_the_fallback() -> None:
    bench = Bench(a_provider(), a_provider("groq"))
    bench.vendors.will(refusal(401))

    ending, _ = await bench.attempt("openai/gpt", "groq/llama")

    assert result_of(ending)["extra_fields"]["provider"] == "groq"


async def test_a_dead_key_says_nothing_about_its_namesake_at_another_provider() -> None:
    bench = Bench(a_provider("openai", a_key("main")), a_provider("groq", a_key("main")))
    bench.vendors.will(refusal(401))

    ending, _ = await bench.attempt("openai/gpt", "groq/llama")

    assert result_of(ending)["extra_fields"]["provider"] == "groq"


async def test_a_key_that_died_serves_no_other_model_of_the_job() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(401), refusal(404), OK)

    result_of((await bench.attempt("openai/gpt", "openai/mini"))[0])

    assert bench.vendors.keys == ["sk-a", "sk-b", "sk-b"]


async def test_a_candidate_whose_keys_died_before_is_shown_as_skipped() -> None:
    bench = with_keys("a")
    bench.vendors.will(refusal(401))

    _, calls = await bench.attempt("openai/gpt", "openai/mini")

    assert calls[1:] == [Call(1, error_code="upstream_credentials_exhausted")]


async def test_keys_stay_dead_in_the_next_attempt() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(401), refusal(503))
    ending, _ = await bench.attempt()
    assert isinstance(ending, Postponed)
    bench.vendors.sent.clear()

    await bench.attempt(dead_keys=ending.dead_keys, attempt=2, failed_attempts=1)

    assert {*bench.vendors.keys} == {"sk-b"}


async def test_a_released_attempt_remembers_the_dead_too() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(401), OK)
    run = bench.run()
    await run.execute()

    released = run.released()

    assert not released.is_charged
    assert released.dead_keys == run.released().dead_keys != ()
    bench.vendors.sent.clear()
    await bench.attempt(dead_keys=released.dead_keys)
    assert bench.vendors.keys == ["sk-b"]


# Limited keys


async def test_a_limited_key_is_relieved_by_the_next_after_a_pause() -> None:
    bench = Bench(a_provider("openai", a_key("a", weight=1000), a_key("b", weight=1)))
    bench.vendors.will(refusal(429), OK)

    result_of((await bench.attempt())[0])

    assert bench.vendors.keys == ["sk-a", "sk-b"]
    assert bench.clock.slept == [seconds(0.25)]


async def test_the_wish_of_a_limited_key_does_not_hold_back_the_next() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(429, retry_after=300), OK)

    result_of((await bench.attempt())[0])

    assert bench.clock.slept == [seconds(0)]


async def test_a_limited_key_costs_a_retry() -> None:
    bench = with_keys("a", "b", "c", "d")
    bench.vendors.will(refusal(429))

    ending, _ = await bench.attempt()

    assert bench.vendors.keys == ["sk-a", "sk-b", "sk-c"]
    assert isinstance(ending, Postponed)


async def test_when_all_were_limited_it_starts_over() -> None:
    bench = Bench(PATIENT, rng=FIRST)
    bench.vendors.will(refusal(429))

    await bench.attempt()

    assert bench.vendors.keys == ["sk-a", "sk-b", "sk-a", "sk-b", "sk-a", "sk-b"]


async def test_the_last_of_the_limited_keys_is_waited_for() -> None:
    bench = Bench(PATIENT, rng=FIRST)
    bench.vendors.will(refusal(429, retry_after=9), refusal(429, retry_after=7), OK)

    result_of((await bench.attempt())[0])

    assert bench.clock.slept == [seconds(0), seconds(7)]


async def test_the_only_key_is_waited_for() -> None:
    bench = with_keys("a")
    bench.vendors.will(refusal(429, retry_after=7), OK)

    result_of((await bench.attempt())[0])

    assert bench.clock.slept == [seconds(7)]


async def test_a_dead_key_is_no_relief_for_a_limited_one() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(401), refusal(429, retry_after=7), OK)

    result_of((await bench.attempt())[0])

    assert bench.vendors.keys == ["sk-a", "sk-b", "sk-b"]
    assert bench.clock.slept == [seconds(7)]


async def test_other_failures_stay_with_whatever_key_chance_gives() -> None:
    bench = with_keys("a", "b")
    bench.vendors.will(refusal(503), OK)

    result_of((await bench.attempt())[0])

    assert bench.vendors.keys == ["sk-a", "sk-a"]


# Which keys there are


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param({"is_enabled": False}, id="disabled"),
        pytest.param({"value": None}, id="secret absent"),
        pytest.param({"models": ("other",)}, id="model not listed"),
        pytest.param({"models": ()}, id="no model listed"),
    ],
)
async def test_a_key_that_cannot_serve_is_not_used(unusable: dict[str, Any]) -> None:
    bench = Bench(a_provider("openai", a_key("a", **unusable), a_key("b", models=("gpt",))), rng=FIRST)
    result_of((await bench.attempt())[0])
    assert bench.vendors.keys == ["sk-b"]
    alone = Bench(a_provider("openai", a_key("a", **unusable)))

    ending, calls = await alone.attempt()

    found = error_of(ending)
    assert (found.code, found.status_code) == ("no_eligible_keys", 503)
    assert found.message == 'no usable key for model "gpt" at provider "openai"'
    assert calls == [Call(0, error_code="no_eligible_keys")]


async def test_a_provider_that_needs_no_key_is_called_without() -> None:
    bench = Bench(a_provider("local", a_key("none", value=None), needs_key=False))

    result_of((await bench.attempt("local/llama"))[0])

    assert bench.vendors.keys == [""]


async def test_the_virtual_key_may_narrow_the_choice() -> None:
    narrowed = a_virtual_key(grants=(ProviderGrant("openai", ("*",), key_ids=("b",)),))
    bench = Bench(a_provider("openai", a_key("a"), a_key("b"), a_key("c")), virtual_key=narrowed, rng=FIRST)
    bench.vendors.will(refusal(401))

    ending, _ = await bench.attempt()

    assert bench.vendors.keys == ["sk-b"]
    assert error_of(ending).code == "upstream_credentials_exhausted"


async def test_no_key_may_serve_a_virtual_key_without_key_ids() -> None:
    narrowed = a_virtual_key(grants=(ProviderGrant("openai", ("*",), key_ids=()),))
    bench = Bench(virtual_key=narrowed)

    ending, _ = await bench.attempt()

    assert error_of(ending).code == "no_eligible_keys"


# Chance


async def uses_of(weights: dict[str, float], calls: int = 600) -> Counter[str]:
    keys = [a_key(name, weight=weight) for name, weight in weights.items()]
    bench = Bench(a_provider("openai", *keys), rng=SeededRng(7))
    for _ in range(calls):
        await bench.run().execute()
    return Counter(bench.vendors.keys)


async def test_keys_are_used_by_weight() -> None:
    uses = await uses_of({"a": 3, "b": 1, "never": 0})

    assert uses["sk-a"] == pytest.approx(450, abs=45)
    assert uses["sk-b"] == pytest.approx(150, abs=45)
    assert uses["sk-never"] == 0


async def test_keys_without_any_weight_are_used_alike() -> None:
    uses = await uses_of({"a": 0, "b": 0, "c": 0})

    assert [uses[f"sk-{name}"] for name in "abc"] == pytest.approx([200] * 3, abs=45)


async def test_a_key_without_weight_serves_when_the_others_cannot() -> None:
    bench = Bench(a_provider("openai", a_key("a"), a_key("spare", weight=0)), rng=FIRST)
    bench.vendors.will(refusal(401), OK)

    result_of((await bench.attempt())[0])

    assert bench.vendors.keys == ["sk-a", "sk-spare"]
