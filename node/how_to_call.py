"""How a person calls a platform that has just started, with programs of Debian."""

from __future__ import annotations

from collections.abc import Iterator

from node.config import PlatformSettings
from node.data_directory import DataDirectory, write_private

# A port of its own, since linphone would otherwise want the platform's.
_LINPHONE = """\
[sip]
ipv6_migration_done=1
use_ipv6=0
bind_address=127.0.0.1
sip_port=5095
sip_tcp_port=5095
sip_tls_port=0
guess_hostname=0
default_proxy=-1
contact="caller" <sip:13812345678@127.0.0.1:5095>

[net]
bind_address=127.0.0.1

[rtp]
bind_address=127.0.0.1

[video]
enabled=0
capture=0
display=0
"""


def how_to_call(
    settings: PlatformSettings, address: str, directory: DataDirectory
) -> Iterator[str]:
    """Return lines for the terminal; writes the file that linphone's line needs."""
    number = settings.tenants[0].access_codes[0].code
    host = address.rpartition(":")[0]
    linphone = directory.root / "linphonerc"
    write_private(linphone, _LINPHONE)
    yield "拨打 · how to call:"
    yield f"  cti95598  cti95598 call sip:{number}@{address} --press 1"
    yield f"  linphone  linphonec -c {linphone} -s sip:{number}@{address}"
    yield (
        "  baresip   baresip -e '/uanew <sip:13812345678@127.0.0.1>;regint=0' "
        f"-e '/dial sip:{number}@{address}'"
    )
    yield f"  sipp      sipp -sn uac -s {number} -m 1 -d 10000 -i {host} {address}"
    yield "坐席 · agents:"
    yield f"  cti95598 agent --help  (密码 passwords: {directory.demo_credentials})"
