"""What phones are doing, for those who watch them; call control tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cti.sip.events.dialog_info import DialogStage, PhoneDialog
from cti.sip.events.event_package import Changed
from domain.ids import TenantId

_ENDED = DialogStage.TERMINATED


class PhoneDialogs:
    """The calls of each phone, in memory; a `DialogStates`."""

    def __init__(self, exists: Callable[[TenantId, str], bool]) -> None:
        self._exists = exists
        self._dialogs: dict[tuple[TenantId, str], dict[str, PhoneDialog]] = {}
        self._changed: list[Changed] = []

    def tell(self, tenant: TenantId, user: str, dialog: PhoneDialog) -> None:
        """Take note of a call's new stage; TERMINATED takes it off."""
        known = self._dialogs.get((tenant, user), {})
        if known.get(dialog.key) == dialog:
            return
        live = {key: each for key, each in known.items() if each.stage is not _ENDED}
        live.pop(dialog.key, None)
        if dialog.stage is not _ENDED:
            live[dialog.key] = dialog
        if not live:
            # Many phones put a lamp out only when they see a call end: without calls, the last one
            # stays as ended, and forgets with whom it was.
            live[dialog.key] = replace(dialog, remote_number="", remote_name="")
        self._dialogs[tenant, user] = live
        for changed in self._changed:
            changed(tenant, user)

    def dialogs(self, tenant: TenantId, user: str) -> Sequence[PhoneDialog] | None:
        """See DialogStates."""
        if not self._exists(tenant, user):
            return None
        return tuple(self._dialogs.get((tenant, user), {}).values())

    def watch(self, changed: Changed) -> None:
        """See DialogStates."""
        self._changed.append(changed)
