"""Decides when to restart a node after its process has ended. No I/O: time and chance are
arguments."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import Exit
from .types import FINAL_CODES


@dataclass(frozen=True)
class Restart:
    """The restart policy. Times are in seconds.

    The pause before a restart doubles after each crash, from `first` up to `max`; the SDK
    multiplies it by a random factor from 0.5 to 1. A run of `stable` seconds resets the pause.
    After `crashes` crashes within `window` seconds the SDK emits `Unhealthy`."""

    first: float = 1.0
    max: float = 60.0
    stable: float = 60.0
    crashes: int = 3
    window: float = 60.0


@dataclass(frozen=True)
class RestartDecision:
    """Restart after `delay` seconds. `unhealthy`: the crashes reached the limit of the policy."""

    delay: float
    attempt: int
    unhealthy: bool


@dataclass
class Supervisor:
    """Decides after each exit of a node's process."""

    policy: Restart | None = field(default_factory=Restart)
    _attempts: int = 0
    _ready_at: float | None = None
    _crashes: list[float] = field(default_factory=list)
    _reported: bool = False

    def ready(self, now: float) -> None:
        """Records that the process is ready."""
        self._ready_at = now

    def ended(self, exit: Exit | None, now: float, chance: float) -> RestartDecision | None:
        """Handles an unexpected exit, or a failed start (`None`). `chance` is from 0 to 1. Returns
        `None` if the SDK must not restart the node."""
        policy = self.policy
        ready_at, self._ready_at = self._ready_at, None
        if policy is None or (exit is not None and exit.code in FINAL_CODES):
            return None
        if ready_at is not None and now - ready_at >= policy.stable:
            self._attempts, self._crashes, self._reported = 0, [], False
        self._crashes = [at for at in self._crashes if now - at < policy.window][1 - policy.crashes :] + [now]
        unhealthy = len(self._crashes) >= policy.crashes and not self._reported
        self._reported |= unhealthy
        # Above 2^30 the delay is at its maximum anyway, and a float would overflow.
        delay = min(policy.first * 2.0 ** min(self._attempts, 30), policy.max) * (0.5 + 0.5 * chance)
        self._attempts += 1
        return RestartDecision(delay, self._attempts, unhealthy)
