"""What a tenant's calls are decided by, put together from its configuration and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cti.media_policy import MediaPolicy
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.trunks.number_lists import CallerPolicy, NumberTable
from cti.trunks.settings import OutboundSettings
from domain.ids import TenantId


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """The trunks and access codes of one tenant, who may call it, and how it calls others."""

    tenant: TenantId
    trunks: Sequence[TrunkSettings]
    access_codes: Sequence[AccessCodeSettings]
    callers: CallerPolicy = field(default_factory=CallerPolicy)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    home_mobiles: NumberTable | None = None
    media: MediaPolicy = field(default_factory=MediaPolicy)
    """Of the tenant's phones; its codecs are those of its trunks, too, unless they name theirs."""
