"""How a person calls a platform that has just started, with programs of Debian."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cti.audio import write_tone
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
register_only_when_network_is_up=0
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

_TONE_HZ = 440
_TONE_MS = 60_000

# Modules of a sound card where there is one; else a tone is sent and what is heard is dropped.
_BARESIP = """\
sip_listen 127.0.0.1:5096
sip_trans_def udp
net_interface 127.0.0.1
rtp_ports 46000-46098
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module alsa.so
module aufile.so
module aubridge.so
audio_source {source}
audio_player {player}
audio_alert {player}
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
module_tmp uuid.so
module_tmp account.so
module_app menu.so
"""
_BARESIP_ACCOUNT = "<sip:13812345678@127.0.0.1>;regint=0;audio_codecs=PCMA/8000/1,PCMU/8000/1\n"


def how_to_call(
    settings: PlatformSettings, addresses: Mapping[str, str], directory: DataDirectory
) -> Iterator[str]:
    """Return lines for the terminal; writes the files that they name."""
    number = settings.tenants[0].access_codes[0].code
    if not any(name.startswith("sip/") for name in addresses):
        return
    yield "拨打 · how to call:"
    address = addresses.get("sip/udp")
    if address is not None:
        host = address.rpartition(":")[0]
        linphone, baresip = _write_callers(directory)
        yield f"  cti95598  cti95598 call sip:{number}@{address} --press 1"
        yield (
            "  linphone  mkdir -p ~/.local/share/linphone && "
            f"linphonec -c {linphone} -s sip:{number}@{address}"
        )
        yield f"  baresip   baresip -f {baresip} -e '/dial sip:{number}@{address}'"
        yield f"  sipp      sipp -sn uac -s {number} -m 1 -d 10000 -i {host} {address}"
    for transport in ("ws", "wss"):
        if (web := addresses.get(f"sip/{transport}")) is not None:
            yield f"  浏览器 browser  {transport}://{web}  (SIP.js, JsSIP)"
    yield "坐席 · agents:"
    yield f"  cti95598 agent --help  (密码 passwords: {directory.demo_credentials})"


def _write_callers(directory: DataDirectory) -> tuple[Path, Path]:
    """Write what linphone and baresip need: addresses of their own, on loopback only."""
    callers = directory.root / "callers"
    baresip = callers / "baresip"
    baresip.mkdir(mode=0o700, parents=True, exist_ok=True)
    linphone = callers / "linphonerc"
    write_private(linphone, _LINPHONE)
    has_sound = any(Path("/proc/asound").glob("card[0-9]*"))
    if has_sound:
        source = player = "alsa,default"
    else:
        tone = write_tone(callers / "tone.wav", _TONE_HZ, _TONE_MS)
        source, player = f"aufile,{tone}", "aubridge,nobody"
    write_private(baresip / "config", _BARESIP.format(source=source, player=player))
    write_private(baresip / "accounts", _BARESIP_ACCOUNT)
    write_private(baresip / "contacts", "")
    return linphone, baresip
