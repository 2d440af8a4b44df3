"""What a `MemoryDatabase` keeps besides messages: what processes say of themselves, and what people did."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.storage import Audit, AuditNote


@dataclass(frozen=True, slots=True)
class Said:
    """What a process said of itself, in seconds by the database's clock."""

    data: bytes
    at: float
    expires_at: float


@dataclass(slots=True)
class Records:
    """What processes say of themselves, by app and name, and what people did, by app."""

    said: dict[tuple[str, str], Said] = field(default_factory=dict[tuple[str, str], Said])
    audits: dict[str, list[Audit]] = field(default_factory=dict[str, list[Audit]])
    numbered: int = 0

    def note(self, audit: AuditNote, at: float) -> None:
        """Record what somebody did."""
        self.numbered += 1
        each = Audit(self.numbered, at, audit.who, audit.action, audit.detail)
        self.audits.setdefault(audit.app, []).append(each)

    def forget(self, now: float) -> None:
        """Forget processes that say nothing any more."""
        for name in [name for name, said in self.said.items() if said.expires_at <= now]:
            del self.said[name]
