"""The jobs resource: rich view, cancel, list (contract §11.1, §11.2, §11.5)."""

import asyncio
from datetime import datetime
from typing import Any

import httpx2
import pytest

from api.minting import admin_token
from api.refusals import assert_common_headers, assert_refused
from api.world import ROUTED_KEY, bearer, cancel, until_processing
from support.gateway import CHAT, OTHER_KEY, RunningGateway, chat
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

JOBS = "/v1/async/jobs"


async def view(
    gateway: RunningGateway, job_id: str, query: str = "", secret: str | None = None
) -> httpx2.Response:
    return await gateway.client.get(f"{JOBS}/{job_id}{query}", headers=bearer(secret) if secret else bearer())


class TestRichView:
    async def test_111_it_is_200_in_every_state(self, gateway: RunningGateway) -> None:
        held = await gateway.accepted(chat("narrow/held"))
        await until_processing(gateway, held)
        queued = await gateway.accepted(chat("narrow/held"))
        completed = (await gateway.run())["id"]
        failed = (await gateway.run(chat("moody/refused")))["id"]

        answers = {
            status: await view(gateway, job_id)
            for status, job_id in (
                ("processing", held), ("pending", queued), ("completed", completed), ("failed", failed),
            )
        }  # fmt: skip
        await cancel(gateway, queued)
        await cancel(gateway, held)

        for status, response in answers.items():
            assert response.status_code == 200
            assert response.json()["status"] == status
            assert ("retry-after" in response.headers) is (status in {"pending", "processing"})
            assert response.headers["etag"].startswith('"')
            assert response.headers["cache-control"] == "no-store"
            assert_common_headers(response)

    async def test_111_members_of_a_completed_job(self, gateway: RunningGateway) -> None:
        job_id = await gateway.accepted(
            chat(metadata={"team": "search"}, fallbacks=["other/llama"]), {"x-request-id": "r-1"}
        )
        envelope = await gateway.ended(job_id)

        found = (await view(gateway, job_id)).json()

        attempt = found.pop("attempts")[0]
        timings = found.pop("timings")
        assert found.pop("started_at") >= found["created_at"]
        assert found.pop("deadline_at") > found["created_at"]
        assert found == {
            **envelope,
            "object": "job",
            "request_type": "chat_completion",
            "outcome": "succeeded",
            "model": "openai/echo",
            "candidates": ["openai/echo", "other/llama"],
            "options": {
                "result_ttl": 3600, "timeout": 3600, "max_attempts": 3, "worker_lost": "retry", "priority": 3,
            },
            "attempt": 1,
            "losses": 0,
            "usage": envelope["result"]["usage"],
            "metadata": {"team": "search"},
            "virtual_key": {"id": "key-a", "name": "a"},
            "request_id": "r-1",
            "links": {"self": f"{JOBS}/{job_id}", "poll": f"{CHAT}/{job_id}"},
        }  # fmt: skip
        assert timings.keys() == {"queue_ms", "run_ms", "upstream_ms"}
        assert all(isinstance(value, int) and value >= 0 for value in timings.values())
        self._assert_attempt(attempt, envelope)

    @staticmethod
    def _assert_attempt(attempt: dict[str, Any], envelope: dict[str, Any]) -> None:
        call = attempt.pop("calls")[0]
        assert datetime.fromisoformat(attempt.pop("started_at")) <= datetime.fromisoformat(
            attempt.pop("ended_at")
        )
        assert attempt == {"number": 1, "end": "succeeded"}
        assert call.pop("started_at") <= call.pop("ended_at")
        assert call == {
            "candidate": 0, "provider": "openai", "model": "echo", "key": "main", "status_code": 200,
            "usage": envelope["result"]["usage"], "billing": "known",
        }  # fmt: skip

    async def test_111_members_of_a_failed_job(self, gateway: RunningGateway) -> None:
        envelope = await gateway.run(chat("moody/refused"))

        found = (await view(gateway, envelope["id"])).json()

        assert found["error"] == envelope["error"]
        assert found["outcome"] == "provider_error"
        assert "result" not in found
        assert "usage" not in found
        call = found["attempts"][0]["calls"][0]
        assert (call["status_code"], call["error_code"], call["billing"]) == (
            400,
            "upstream_rejected",
            "none",
        )
        assert call["message"] == "provider moody: no such thing"

    async def test_111_members_of_a_job_that_runs(self, gateway: RunningGateway) -> None:
        job_id = await gateway.accepted(chat("openai/held"))
        await until_processing(gateway, job_id)

        found = (await view(gateway, job_id)).json()

        assert found.keys().isdisjoint(
            {"outcome", "status_code", "completed_at", "expires_at", "queue", "usage"}
        )
        assert found["attempt"] == 1
        assert [attempt.keys() for attempt in found["attempts"]] == [{"number", "started_at", "calls"}]
        assert found["links"]["cancel"] == f"{JOBS}/{job_id}/cancel"

    async def test_111_a_pending_job_says_what_holds_it(self, gateway: RunningGateway) -> None:
        blocker = await gateway.accepted(chat("narrow/held"))
        await until_processing(gateway, blocker)
        queued = (await view(gateway, await gateway.accepted(chat("narrow/echo")))).json()
        await cancel(gateway, blocker)
        job_id = await gateway.accepted(chat("limiting/limited"))
        retried = (await view(gateway, job_id)).json()
        while "next_run_at" not in retried:
            retried = (await view(gateway, job_id)).json()

        assert queued["queue"] == {}
        assert queued.keys().isdisjoint({"started_at", "next_run_at"})
        assert retried["queue"] == {"held_by": "retry"}
        assert retried["attempts"][0]["calls"][0]["retry_after"] == 45

    async def test_111_the_result_can_be_left_out(self, gateway: RunningGateway) -> None:
        job_id = (await gateway.run())["id"]

        whole = (await view(gateway, job_id, "?result=true")).json()
        short = (await view(gateway, job_id, "?result=false")).json()

        assert whole.pop("result")["object"] == "chat.completion"
        assert short == whole

    @pytest.mark.parametrize(
        "query", ["?result=no", "?result=", "?result=true&result=false", "?results=false"]
    )
    async def test_111_a_malformed_query_is_refused(self, gateway: RunningGateway, query: str) -> None:
        assert_refused(await view(gateway, "x", query), "invalid_query_parameter")

    async def test_111_a_bare_model_shows_where_it_may_go(self, gateway: RunningGateway) -> None:
        weighted = await gateway.accepted(chat("shared"), key=ROUTED_KEY)
        by_name = await gateway.accepted(chat("shared"))

        assert sorted((await gateway.details(weighted, key=ROUTED_KEY))["candidates"]) == [
            "openai/shared",
            "other/shared",
        ]
        assert (await gateway.details(by_name))["candidates"] == ["other/shared"]
        assert (await gateway.details(by_name))["model"] == "shared"

    async def test_111_not_modified(self, gateway: RunningGateway) -> None:
        job_id = (await gateway.run())["id"]
        etag = (await view(gateway, job_id)).headers["etag"]

        response = await gateway.client.get(f"{JOBS}/{job_id}", headers=bearer() | {"if-none-match": etag})

        assert response.status_code == 304

    async def test_111_admins_see_the_actor_and_who_owns_it(self, gateway: RunningGateway) -> None:
        by_admin = await gateway.accepted(key=admin_token("root"))
        by_key = await gateway.accepted()

        first = (await view(gateway, by_admin, secret=admin_token())).json()
        second = (await view(gateway, by_key, secret=admin_token())).json()

        assert first["actor"] == "root"
        assert "virtual_key" not in first
        assert second["virtual_key"] == {"id": "key-a", "name": "a"}
        assert "actor" not in second


class TestCancel:
    @pytest.mark.parametrize("state", ["pending", "processing"])
    async def test_112_it_ends_the_job_at_once(self, gateway: RunningGateway, state: str) -> None:
        blocker = await gateway.accepted(chat("narrow/held"))
        await until_processing(gateway, blocker)
        job_id = blocker if state == "processing" else await gateway.accepted(chat("narrow/held"))

        response = await cancel(gateway, job_id)
        if state == "pending":
            await cancel(gateway, blocker)

        found = response.json()
        assert response.status_code == 200
        assert (found["status"], found["status_code"], found["outcome"]) == ("failed", 499, "cancelled")
        assert found["error"]["error"]["code"] == "request_cancelled"
        assert [attempt["end"] for attempt in found["attempts"]] == ["cancelled"] * (state == "processing")
        assert "cancel" not in found["links"]
        assert response.headers["cache-control"] == "no-store"

    async def test_112_the_call_to_the_provider_is_closed(
        self, gateway: RunningGateway, vendor: MockVendor
    ) -> None:
        job_id = await gateway.accepted(chat("openai/held", user="to-be-cancelled"))
        async with asyncio.timeout(10):
            while not (calls := [call for call in vendor.calls() if call.user == "to-be-cancelled"]):
                await asyncio.sleep(0.01)

        await cancel(gateway, job_id)

        async with asyncio.timeout(1):
            while not calls[0].hung_up:
                await asyncio.sleep(0.01)
        assert (await gateway.poll(job_id)).json()["status_code"] == 499

    async def test_112_again_changes_nothing(self, gateway: RunningGateway) -> None:
        job_id = await gateway.accepted(chat("openai/held"))
        first = await cancel(gateway, job_id)

        second = await cancel(gateway, job_id)

        assert second.status_code == 200
        for name in ("status", "status_code", "completed_at", "expires_at", "error", "outcome"):
            assert second.json()[name] == first.json()[name]

    @pytest.mark.parametrize("model", ["openai/echo", "moody/refused"])
    async def test_112_a_job_that_ended_otherwise_is_409(self, gateway: RunningGateway, model: str) -> None:
        job_id = (await gateway.run(chat(model)))["id"]

        assert_refused(await cancel(gateway, job_id), "job_not_cancellable", "job has already ended")

    async def test_112_a_job_that_waits_for_a_retry_can_be_cancelled(self, gateway: RunningGateway) -> None:
        blocker = await gateway.accepted(chat("limiting/limited"))

        assert (await cancel(gateway, blocker)).json()["outcome"] == "cancelled"

    async def test_112_an_admin_cancels_every_job(self, gateway: RunningGateway) -> None:
        job_id = await gateway.accepted(chat("openai/held"))

        assert (await cancel(gateway, job_id, admin_token())).status_code == 200


class TestList:
    """With a key that nothing else in this file uses."""

    @pytest.fixture(scope="class")
    async def jobs(self, gateway: RunningGateway) -> list[str]:
        """Five jobs in the order of their submission: completed, and the third cancelled."""
        ids = []
        for number in range(5):
            model = "openai/echo" if number != 2 else "narrow/held"
            members: dict[str, Any] = {"metadata": {"row": number}} if number % 2 else {}
            job_id = await gateway.accepted(chat(model) | members, key=OTHER_KEY)
            if number == 2:
                await cancel(gateway, job_id, OTHER_KEY)
            await gateway.ended(job_id, key=OTHER_KEY)
            ids.append(job_id)
        return ids

    @staticmethod
    async def listed(gateway: RunningGateway, query: str = "") -> dict[str, Any]:
        response = await gateway.client.get(f"{JOBS}{query}", headers=bearer(OTHER_KEY))
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        page: dict[str, Any] = response.json()
        return page

    async def test_115_one_page(self, gateway: RunningGateway, jobs: list[str]) -> None:
        page = await self.listed(gateway)

        assert page.keys() == {"object", "data", "has_more"}
        assert (page["object"], page["has_more"]) == ("list", False)
        assert [entry["id"] for entry in page["data"]] == jobs[::-1]

    async def test_115_entries_are_the_rich_view_without_its_long_parts(
        self, gateway: RunningGateway, jobs: list[str]
    ) -> None:
        entries = (await self.listed(gateway))["data"]

        left_out = {"result", "error", "attempts", "queue", "options"}
        for entry in entries:
            rich = await gateway.details(entry["id"], key=OTHER_KEY)
            assert {name: value for name, value in entry.items() if name != "error_code"} == {
                name: value for name, value in rich.items() if name not in left_out
            }
            assert entry.get("error_code") == rich.get("error", {}).get("type")
        assert [entry.get("metadata") for entry in entries] == [None, {"row": 3}, None, {"row": 1}, None]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("limit", [1, 2, 5, 6])
    async def test_115_pages_neither_skip_nor_repeat(
        self, gateway: RunningGateway, jobs: list[str], order: str, limit: int
    ) -> None:
        found: list[str] = []
        cursor = ""
        while True:
            page = await self.listed(gateway, f"?order={order}&limit={limit}{cursor}")
            found += [entry["id"] for entry in page["data"]]
            assert len(page["data"]) <= limit
            assert page["has_more"] is ("next_cursor" in page)
            if not page["has_more"]:
                break
            cursor = f"&after={page['next_cursor']}"

        assert found == (jobs if order == "asc" else jobs[::-1])

    async def test_115_pages_stay_put_while_jobs_arrive(
        self, gateway: RunningGateway, jobs: list[str]
    ) -> None:
        first = await self.listed(gateway, "?limit=2&status=completed")
        await gateway.ended(await gateway.accepted(chat("openai/late"), key=OTHER_KEY), key=OTHER_KEY)

        second = await self.listed(gateway, f"?limit=2&status=completed&after={first['next_cursor']}")

        ids = [entry["id"] for entry in (*first["data"], *second["data"])]
        completed = [job_id for job_id in jobs if job_id != jobs[2]]
        assert ids == completed[::-1]

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ("?status=failed", [2]),
            ("?status=failed&status=completed", [0, 1, 2, 3, 4]),
            ("?status=pending&status=processing", []),
            ("?model=narrow/held", [2]),
            ("?model=openai%2Fecho", [0, 1, 3, 4]),
            ("?model=openai/ech", []),
            ("?model=OPENAI/ECHO", []),
            ("?model=", []),
            ("?model=%25", []),
            ("?status=completed&model=narrow/held", []),
        ],
    )
    async def test_115_filters(
        self, gateway: RunningGateway, jobs: list[str], query: str, numbers: list[int]
    ) -> None:
        found = {entry["id"] for entry in (await self.listed(gateway, query))["data"]}

        assert found & set(jobs) == {jobs[number] for number in numbers}

    @pytest.mark.parametrize(
        ("query", "message", "param"),
        [
            ("limit=0", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=201", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=-1", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=1.0", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=%C2%B2", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=9999999999", "invalid limit: expected an integer from 1 to 200", "limit"),
            ("limit=1&limit=2", "invalid limit: expected to be given once", "limit"),
            ("order=up", "invalid order: expected one of desc, asc", "order"),
            ("order=ASC", "invalid order: expected one of desc, asc", "order"),
            ("model=a&model=b", "invalid model: expected to be given once", "model"),
            (
                "status=done",
                "invalid status: expected one of pending, processing, completed, failed",
                "status",
            ),
            ("status=completed&status=x", None, "status"),
            ("outcome=cancelled", None, "outcome"),
            ("metadata[team]=x", None, "metadata[team]"),
            ("created_after=2026-03-02T09:15:04Z", None, "created_after"),
            ("virtual_key=key-a", None, "virtual_key"),
            ("statuss=failed", None, "statuss"),
            ("Limit=5", None, "Limit"),
        ],
    )
    async def test_115_unknown_parameters_and_words_are_refused(
        self, gateway: RunningGateway, query: str, message: str | None, param: str
    ) -> None:
        response = await gateway.client.get(f"{JOBS}?{query}", headers=bearer(OTHER_KEY))

        assert_refused(response, "invalid_query_parameter", message, param=param)

    @pytest.mark.parametrize(
        "cursor", ["", "x", "%21", "a" * 30, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "=", "a" * 5000]
    )
    async def test_115_a_malformed_cursor_is_refused(self, gateway: RunningGateway, cursor: str) -> None:
        response = await gateway.client.get(f"{JOBS}?after={cursor}", headers=bearer())

        assert_refused(response, "invalid_cursor", "cursor is not valid for this list", param="after")

    @pytest.mark.parametrize("query", ["status=completed", "order=asc", "model=openai/echo"])
    async def test_115_a_cursor_is_valid_for_its_filters_only(
        self, gateway: RunningGateway, jobs: list[str], query: str
    ) -> None:
        cursor = (await self.listed(gateway, "?limit=1"))["next_cursor"]

        response = await gateway.client.get(f"{JOBS}?{query}&after={cursor}", headers=bearer(OTHER_KEY))
        other_limit = await self.listed(gateway, f"?limit=2&after={cursor}")

        assert_refused(response, "invalid_cursor")
        assert len(other_limit["data"]) == 2
