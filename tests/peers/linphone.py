"""linphonec with files for a sound card, steered by the commands one types."""

from __future__ import annotations

from pathlib import Path

from cti import audio
from demo.ports import free_port
from tests.peers.process import PeerProcess
from tests.peers.waiting import wait_until

# use_ipv6 counts only where the migration to IPv6 is said to be done; without the addresses in
# [sip] and [rtp] linphone would offer those of the machine's other interfaces.
_CONFIG = """\
[sip]
ipv6_migration_done=1
use_ipv6=0
bind_address=127.0.0.1
sip_port={sip_port}
sip_tcp_port={sip_port}
sip_tls_port={tls_port}
root_ca={authority}
verify_server_certs=1
verify_server_cn=1
guess_hostname=0
contact="linphone" <sip:{user}@127.0.0.1:{sip_port}>
default_proxy={proxy}
register_only_when_network_is_up=0

[net]
bind_address=127.0.0.1

[rtp]
bind_address=127.0.0.1
audio_rtp_port={rtp_port}
audio_adaptive_jitt_comp_enabled=0
audio_jitt_comp=40

[sound]
echocancellation=0

[video]
enabled=0
capture=0
display=0
automatically_initiate=0
automatically_accept=0
"""
_ACCOUNT = """
[auth_info_0]
username={user}
userid={user}
passwd={password}
realm={realm}
algorithm=MD5

[proxy_0]
reg_proxy=<sip:{server};transport={transport}>
reg_identity=<sip:{user}@{server}>
reg_sendregister=1
reg_expires=120
publish=0
"""


class Linphone:
    """One linphonec."""

    def __init__(self, directory: Path, *, user: str, voice: Path) -> None:
        self._directory = directory
        self._process = PeerProcess(directory)
        self._user = user
        self._voice = voice
        self._recording = directory / "heard.wav"

    async def start(
        self,
        server: str = "",
        *,
        password: str = "",
        realm: str = "",
        auto_answer: bool = False,
        transport: str = "udp",
        authority: Path | None = None,
    ) -> None:
        """Start; with a password it registers at `server` (host:port).

        With an `authority` it speaks TLS too, and checks servers' certificates against it.
        """
        self._directory.mkdir(parents=True)
        # Where linphone keeps its databases; it does not make the directory itself.
        (self._directory / ".local/share/linphone").mkdir(parents=True)
        sip_port = free_port()
        config = _CONFIG.format(
            user=self._user,
            sip_port=sip_port,
            rtp_port=50000 + sip_port % 500 * 20,
            proxy=0 if password else -1,
            tls_port=free_port() if authority else 0,
            authority=authority or "/etc/ssl/certs/ca-certificates.crt",
        )
        if password:
            config += _ACCOUNT.format(
                user=self._user,
                password=password,
                realm=realm,
                server=server,
                transport=transport,
            )
        path = self._directory / "linphonerc"
        path.write_text(config)
        path.chmod(0o600)
        command = ["/usr/bin/linphonec", "-c", str(path), "-l", str(self._directory / "log")]
        command += ["-d", "6"] + (["-a"] if auto_answer else [])
        await self._process.start(command, home=True)
        self._process.type("soundcard use files")
        await self._process.printed("Using wav files")
        self._process.type(f"record {self._recording}")
        self._process.type(f"play {self._voice}")
        if password:
            await wait_until(self._is_registered, 10, "linphone registered")

    def _is_registered(self) -> bool:
        """It does not tell by itself."""
        self._process.type("status register")
        return any("registered, identity" in line for line in self._process.lines)

    async def dial(self, uri: str) -> None:
        """Call and wait for the answer."""
        self._process.type(f"call {uri}")
        await self._process.printed("Media streams established", timeout_s=15)
        self._process.type(f"play {self._voice}")

    async def in_call(self, timeout_s: float = 20.0) -> None:
        """Wait until a call that came in is answered."""
        await self._process.printed("Media streams established", timeout_s=timeout_s)
        self._process.type(f"play {self._voice}")

    def type(self, line: str) -> None:
        """Enter a command, such as a key to send, answer or terminate."""
        self._process.type(line)

    async def printed(self, pattern: str, timeout_s: float = 15.0) -> str:
        """Wait for a line of its output."""
        return await self._process.printed(pattern, timeout_s=timeout_s)

    def heard(self) -> audio.Sound:
        """What it heard since its start."""
        return audio.read_wav(self._recording)[0]

    async def stop(self) -> None:
        self._process.type("quit")
        await self._process.stop()
