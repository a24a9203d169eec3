"""The gate of one endpoint, and the waits between attempts."""

import asyncio

from tasks.asking.pace import Backoff, Pace


def test_too_much_halves_the_pace_once_and_success_raises_it() -> None:
    async def halve_and_creep() -> list[int]:
        pace = Pace(16)
        async with pace.turn() as entered:
            pace.slow_down(entered)
            pace.slow_down(entered)
        halved = pace.allowed
        for _ in range(9):
            pace.speed_up()
        return [halved, pace.allowed]

    assert asyncio.run(halve_and_creep()) == [8, 9]


def test_the_pace_never_falls_below_one_nor_rises_above_its_most() -> None:
    async def extremes() -> list[int]:
        pace, found = Pace(3), []
        for _ in range(5):
            async with pace.turn() as entered:
                pace.slow_down(entered)
        found.append(pace.allowed)
        for _ in range(50):
            pace.speed_up()
        return [*found, pace.allowed]

    assert asyncio.run(extremes()) == [1, 3]


def test_backoff_doubles_up_to_its_most_with_seeded_jitter() -> None:
    backoff = Backoff(first_s=1, most_s=10)
    for attempt, full in [(1, 1), (2, 2), (4, 8), (9, 10)]:
        assert full / 2 <= backoff.seconds(attempt, seed=7) <= full
        assert backoff.seconds(attempt, seed=7) == backoff.seconds(attempt, seed=7)
