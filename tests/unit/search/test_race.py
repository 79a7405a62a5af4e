"""Which arm of a race is trained next, and when the race ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from compress.search.costs import REMAINS_DOUBLED, REMAINS_FIRST, SearchCosts
from compress.search.estimates import Drop
from compress.search.race import LARGEST, Arm, leader, race, race_for_accuracy


@dataclass
class MadeUp:
    """Trains arms in no time: each unit of an arm costs its size, and its drop after `units` is known."""

    drops: dict[str, list[float]]  # by arm: after 1, 2, 4, … units
    time: float = 100.0
    error: float = 0.05
    costs: SearchCosts = field(default_factory=SearchCosts)
    trained: list[tuple[str, int]] = field(default_factory=list)
    out: dict[str, str] = field(default_factory=dict)
    diverging: str = ""  # an arm

    def seconds_to(self, arm: Arm, units: int) -> float:
        return arm.size * (units - arm.units)

    def left(self) -> float:
        return self.time

    def train(self, arm: Arm, units: int) -> bool:
        if arm.name == self.diverging:
            self.drop_arm(arm, "its training diverged")
            return False
        seconds = self.seconds_to(arm, units)
        if seconds > self.time:
            return False
        self.time -= seconds
        arm.units, arm.model = units, f"{arm.name}-{units}"
        known = self.drops[arm.name]
        arm.drop = Drop(known[min(units.bit_length() - 1, len(known) - 1)], self.error, 872)
        self.trained.append((arm.name, units))
        return True

    def loses_to(self, arm: Arm, other: Arm) -> bool:
        return arm.drop is not None and other.drop is not None and arm.drop.points > other.drop.points + 0.5

    def drop_arm(self, arm: Arm, why: str) -> None:
        arm.out = self.out[arm.name] = why


def arms(*raw: float) -> list[Arm]:
    """Return arms of 2x, 4x, 6x, … with these drops before training."""
    gains = [2.0 * number for number in range(1, len(raw) + 1)]
    return [
        Arm(f"{gain:g}x", f"slim/{gain:g}x", gain, 1.0, Drop(drop, 0.3, 872), model="slim") for gain, drop in zip(gains, raw, strict=True)
    ]


def test_the_largest_that_keeps_the_limit_leads() -> None:
    family = arms(0.1, 2.0, 5.0)
    trainer = MadeUp({"2x": [0.0], "4x": [0.9, 0.5], "6x": [3.0, 2.5, 2.2, 2.0]})
    race(family, 1.0, trainer, 1.0)
    best = leader(family, 1.0, trainer.costs)
    assert best is not None
    assert best.name == "4x"
    assert "6x" in trainer.out


def test_a_small_family_is_not_trained_beyond_what_is_needed() -> None:
    family = arms(0.0, 0.1, 0.2)
    trainer = MadeUp({"2x": [0.0], "4x": [0.0], "6x": [0.1]})
    race(family, 1.0, trainer, 1.0)
    assert trainer.trained == [("6x", 1)]


def test_after_failures_the_race_goes_back_to_smaller_gains() -> None:
    family = arms(0.5, 2.0, 2.2)
    trainer = MadeUp({"2x": [0.2], "4x": [3.0, 3.0], "6x": [3.5, 3.5]})
    race(family, 1.0, trainer, 1.0)
    best = leader(family, 1.0, trainer.costs)
    assert best is not None
    assert best.name == "2x"


def test_an_arm_that_diverges_leaves_the_race_to_the_others() -> None:
    family = arms(0.5, 2.0, 2.2)
    trainer = MadeUp({"2x": [0.2], "4x": [0.5]}, diverging="6x")
    race(family, 1.0, trainer, 1.0)
    best = leader(family, 1.0, trainer.costs)
    assert "6x" in trainer.out
    assert best is not None
    assert best.name == "4x"


def test_no_arm_is_trained_beyond_the_largest_number_of_units() -> None:
    family = arms(4.0)
    trainer = MadeUp({"2x": [2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.25]}, time=1e6, error=0.5)
    race(family, 1.0, trainer, 1.0)
    assert trainer.trained[-1] == ("2x", LARGEST)


def test_nothing_is_begun_without_time() -> None:
    family = arms(0.5, 2.0)
    trainer = MadeUp({"2x": [0.2], "4x": [0.5]}, time=0.5)
    race(family, 1.0, trainer, 1.0)
    assert not trainer.trained


def test_nothing_is_trained_for_a_gain_that_is_there_already() -> None:
    family = arms(0.5, 2.0)
    trainer = MadeUp({"2x": [0.2], "4x": [0.5]})
    race(family, 1.0, trainer, 10.0)
    assert not trainer.trained


def test_the_chance_grows_with_the_training_that_is_planned() -> None:
    (arm,) = arms(3.0)
    chances = [arm.chance(1.0, SearchCosts(), units) for units in (0, 1, 4, 16)]
    assert chances == sorted(chances)
    assert chances[0] < 0.01


def test_a_lucky_measurement_leaves_a_chance_that_fits_the_family() -> None:
    arm = Arm("6x", "slim/6x", 20.0, 1.0, Drop(0.0, 0.9, 872), units=1, model="student-6x-1")
    alone = arm.chance(1.0, SearchCosts())
    arm.pruned = Drop(6.0, 1.0, 872)  # of which one unit of training leaves nearly half
    assert arm.chance(1.0, SearchCosts()) < 0.8 * alone


def test_less_is_expected_after_more_training_and_nothing_without_a_family() -> None:
    (arm,) = arms(3.0)
    assert arm.expected(SearchCosts()) is None
    arm.pruned = arm.drop
    expected: list[float] = []
    for arm.units in (0, 1, 4):
        drop = arm.expected(SearchCosts(), 0.2)
        assert drop is not None
        expected.append(drop.points)
    assert expected == pytest.approx([3.2, 0.2 + 3 * REMAINS_FIRST, 0.2 + 3 * REMAINS_FIRST * REMAINS_DOUBLED**2])


def test_for_accuracy_the_worse_is_dropped_and_the_better_trained_on() -> None:
    family = arms(1.0, 3.0)
    trainer = MadeUp({"2x": [0.5, 0.2, -0.1, -0.1], "4x": [2.0, 1.5, 1.4]})
    race_for_accuracy(family, trainer)
    assert trainer.out.keys() == {"4x"}
    assert trainer.trained[-1] == ("2x", 8)


def test_for_accuracy_the_best_that_can_be_trained_counts() -> None:
    family = arms(0.1, 3.0)  # the first is the better one until it diverges
    trainer = MadeUp({"4x": [2.0, 1.5, 1.4, 1.4]}, diverging="2x")
    race_for_accuracy(family, trainer)
    assert trainer.out.keys() == {"2x"}
    assert trainer.trained[-1] == ("4x", 8)


@pytest.mark.parametrize("time", [1.0, 3.0, 7.0])
def test_for_accuracy_the_time_ends_the_race(time: float) -> None:
    trainer = MadeUp({"2x": [0.5, 0.2, -0.1, -0.5]}, time=time)
    race_for_accuracy(arms(1.0), trainer)
    assert sum(1 for _ in trainer.trained) == {1.0: 1, 3.0: 2, 7.0: 3}[time]
