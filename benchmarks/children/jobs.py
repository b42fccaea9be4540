"""New jobs for a store that is measured without the rest."""

from tidegate.domain.access import KeyId, Owner, owner_of_key
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobId, Lane, NewJob, Options
from tidegate.ports import Clock, Rng

LANE = Lane("openai")
OWNER = owner_of_key(KeyId("bench"))


def new_job(clock: Clock, rng: Rng, body: bytes, owner: Owner = OWNER) -> NewJob:
    now = clock.now()
    return NewJob(
        id=JobId(uuid7(now, rng.secret_bytes(10))),
        request_type=RequestType.CHAT_COMPLETION,
        owner=owner,
        actor=None,
        model="openai/echo",
        candidates=("openai/echo",),
        lane=LANE,
        weight=1.0,
        options=Options(),
        passes_extra_params=False,
        request_id="request",
        created_at=now,
        body=body,
    )
