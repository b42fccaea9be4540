"""What a job store promises, in the fewest words: the model that real stores are compared with."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidegate.domain.access import Owner
from tidegate.domain.jobs import JobId, Lane


@dataclass
class Job:
    owner: Owner
    lane: Lane
    deadline: datetime
    ttl: timedelta
    status: str = "pending"
    outcome: str | None = None
    due: datetime | None = None
    expires: datetime | None = None
    losses: int = 0
    token: bytes = b""
    ends: list[str | None] = field(default_factory=list)

    def let_go(self, how: str, due: datetime | None = None) -> None:
        self.status, self.ends[-1], self.due, self.token = "pending", how, due, b""

    def end(self, outcome: str, now: datetime, how: str) -> None:
        if self.token:
            self.let_go(how)
        self.status = "completed" if outcome == "succeeded" else "failed"
        self.outcome, self.expires = outcome, now + self.ttl


class Model(dict[JobId, Job]):
    def claimable(self, lane: Lane, now: datetime, *, suspect: bool) -> set[JobId]:
        for job in self.values():
            job.due = job.due if job.due and job.due > now else None  # it has its place from now on
        waiting = {job_id for job_id, job in self.items() if job.status == "pending" and job.lane == lane}
        return {
            job_id for job_id in waiting
            if not self[job_id].due and self[job_id].deadline > now and (self[job_id].losses > 1) == suspect
        }  # fmt: skip

    def claim(self, job_id: JobId, token: bytes) -> None:
        self[job_id].status, self[job_id].token = "processing", token
        self[job_id].ends.append(None)

    def strike(self, now: datetime) -> int:
        overdue = [job for job in self.values() if job.expires is None and job.deadline <= now]
        for job in overdue:
            job.end("deadline_exceeded" if job.ends else "queue_timeout", now, "failed")
        return len(overdue)

    def crash(self, now: datetime) -> None:
        for job in [job for job in self.values() if job.token]:
            job.losses += 1
            job.let_go("worker_lost")
            if job.losses > 2:
                job.end("worker_lost", now, "")
