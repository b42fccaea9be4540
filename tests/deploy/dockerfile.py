"""A Dockerfile as a list of instructions."""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

from deploy.files import DEPLOY


@final
class Instruction(NamedTuple):
    word: str
    rest: str


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def _stages(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    stages: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.word == "FROM":
            stages.append([])
        stages[-1].append(instruction)
    return stages


STAGES: Final = _stages(_instructions((DEPLOY / "Dockerfile").read_text("utf-8")))
BUILD, IMAGE = STAGES


def all_of(word: str, stage: Sequence[Instruction]) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]
