"""Certificates of a test authority, as the files a node would have."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from cti.sip.transports.tls_files import Tls, VerifyClient


class Authority:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca_file = directory / f"ca{id(self)}.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    def issue(self, *names: str, file: str = "", expired: bool = False) -> Path:
        """Write key and certificate of these names to one file."""
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        leaf = self.ca.issue_cert(*names, not_after=until) if until else self.ca.issue_cert(*names)
        path = self.directory / (file or f"{'-'.join(names).replace(':', '_')}{expired}.pem")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def tls(
        self,
        *names: str,
        expired: bool = False,
        trusts: "Authority | None" = None,
        verify_client: VerifyClient = VerifyClient.NO,
    ) -> Tls:
        return Tls(
            certificate=self.issue(*names, expired=expired) if names else None,
            ca=(trusts or self).ca_file,
            client_ca=(trusts or self).ca_file,
            verify_client=verify_client,
        )
