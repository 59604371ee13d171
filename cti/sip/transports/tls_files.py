"""Certificates and keys from files: loaded, explained when they cannot be, and loaded again."""

from __future__ import annotations

import ssl
from enum import StrEnum
from pathlib import Path

from domain.failures import Code, PlatformError
from domain.words import Words

_REMEDY_PATH = Words(
    "改正路径(从配置文件所在目录算起)", "correct the path, which starts at the configuration file"
)


class VerifyClient(StrEnum):
    """Whether peers that connect to us must show a certificate."""

    NO = "no"
    OPTIONAL = "optional"
    REQUIRED = "required"


class TlsFileError(PlatformError):
    """A file of TLS that cannot be used; `field` names its setting."""

    def __init__(self, field: str, reason: Words, remedy: Words) -> None:
        super().__init__(Code.CONFIG_INVALID, f"{reason.en}; {remedy.en}")
        self.field = field
        self.reason = reason
        self.remedy = remedy


class Tls:
    """What this node shows and whom it trusts, in TLS 1.2 and later.

    `ca` verifies servers we connect to, without it the system's authorities do; `client_ca`
    verifies those who connect to us.
    """

    def __init__(
        self,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        ca: Path | None = None,
        client_ca: Path | None = None,
        verify_client: VerifyClient = VerifyClient.NO,
    ) -> None:
        """Load all files; raises TlsFileError."""
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._client_ca = client_ca
        self._verify_client = verify_client
        self.server: ssl.SSLContext | None = None
        """For those who connect to us; None without a certificate."""
        self.reload()

    def reload(self) -> None:
        """Load all files again, for connections to come; raises TlsFileError, then all stays."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.minimum_version = ssl.TLSVersion.TLSv1_2
        client.check_hostname = False  # `TlsLayer` does, by the rules of SIP (RFC 5922 7)
        if self._ca is None:
            client.load_default_certs()
        else:
            _trust(client, "ca", self._ca)
        server = None
        if self._certificate is not None:
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.minimum_version = ssl.TLSVersion.TLSv1_2
            server.options |= ssl.OP_NO_RENEGOTIATION  # work that a peer could ask for without end
            _show(server, self._certificate, self._key)
            _show(client, self._certificate, self._key)
            if self._verify_client is not VerifyClient.NO:
                required = self._verify_client is VerifyClient.REQUIRED
                server.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
                if self._client_ca is not None:
                    _trust(server, "client_ca", self._client_ca)
        self.client = client
        self.server = server


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    _readable("certificate", certificate)
    key_file = key or certificate
    _readable("key", key_file)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError(
                "key",
                Words(
                    f"{key or certificate} 不是该证书的私钥", f"{key or certificate} is not its key"
                ),
                Words("用与证书配对的私钥", "give the key that was made for the certificate"),
            ) from None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
        except ssl.SSLError:
            raise _not_pem("certificate", certificate) from None
        raise _not_pem("key", key_file) from None
    except _KeyEncryptedError:
        raise TlsFileError(
            "key",
            Words(
                f"{key or certificate} 里的私钥有口令",
                f"the key in {key or certificate} needs a password",
            ),
            Words(
                "用没有口令的私钥,只让本服务读它(chmod 600)",
                "give a key without one, which only this service can read (chmod 600)",
            ),
        ) from None


class _KeyEncryptedError(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _KeyEncryptedError


def _trust(context: ssl.SSLContext, field: str, file: Path) -> None:
    _readable(field, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise _not_pem(field, file) from None


def _readable(field: str, file: Path) -> None:
    try:
        with file.open("rb"):
            return
    except FileNotFoundError:
        raise TlsFileError(
            field, Words(f"没有文件 {file}", f"there is no file {file}"), _REMEDY_PATH
        ) from None
    except OSError as error:
        reason = Words(
            f"读不了 {file}:{error.strerror}", f"{file} cannot be read: {error.strerror}"
        )
        remedy = Words("改正路径或文件的权限", "correct the path or the rights of the file")
        raise TlsFileError(field, reason, remedy) from None


def _not_pem(field: str, file: Path) -> TlsFileError:
    return TlsFileError(
        field,
        Words(f"{file} 里没有可用的 PEM", f"{file} holds no PEM that can be used"),
        Words("换成 PEM 格式的文件", "give a file in PEM format"),
    )
