"""The composition of a node: every part of every room, wired, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog
from fastapi import APIRouter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

import recording
import reports
from agents.desk import AgentDesk
from agents.directory import Directory
from agents.distribution import QueueDistribution
from agents.passwords import PasswordCheck
from agents.service import AgentService
from agents.settings import AgentSettings
from cti.admission import Admission
from cti.call import CallInfo
from cti.calls.call_control import CallControl, PhoneAccess
from cti.calls.listening import Listening
from cti.shared.contacts import RedisContactStore
from cti.shared.lamp_exchange import LampExchange
from cti.sip.defence.offences import Offence
from cti.sip.defence.source import TrustedProxies
from cti.sip.endpoint import SipEndpoint
from cti.sip.events.phone_dialogs import PhoneDialogs
from cti.sip.sessions.session import InviteSession
from cti.sip.user_agent import UserAgent
from cti95598.events.v1.events_pb2 import NodeStarted
from domain.agent_day import AgentDay
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, CallId, NodeId, TenantId
from domain.redis_line import RedisLine
from ivr.business import BusinessClient, BusinessSystems
from ivr.library import FlowLibrary
from ivr.prompts import PromptStore
from ivr.recordings import WAITING
from ivr.runner import FlowRunner
from ivr.synthesis import EspeakSynthesizer
from node.clients import Clients, ClientSettings
from node.config import Config, PlatformSettings
from node.counts_on_demand import CountsOnDemand
from node.credentials import ensure_credentials
from node.data_directory import DataDirectory, InstanceLock
from node.defence import SourceDefence, bans_router
from node.event_bus import EventBus, stream_name
from node.http import Health, HttpServer, gateway
from node.live_audio import LiveAudioService
from node.load_watch import LoadWatch
from node.loop_delay import LoopDelay
from node.media import NodeMedia, media_router
from node.phone_lamps import PhoneLamps
from node.phone_services import PhoneServices
from node.phones import ConfiguredPhones, RegistrationEvents
from node.registration import Registration
from node.services import ALL_SERVICES, Service, check_ports
from node.signalling import Signalling
from node.stores.embedded import start_stores
from node.stores.migrations import migrate
from node.stores.redis_round_trips import count_round_trip, count_round_trips
from node.toolbar_server import ToolbarServer
from node.trunks import NodeTrunks, trunks_router
from recording.index import RecordingIndex
from recording.layout import recording_path
from reports.agent_records import AgentRecords
from reports.call_records import CallRecords
from reports.consumer import EventConsumer
from reports.database import DATABASE_ERRORS
from reports.queries import RecordQueries
from routing.redis_acd import RedisAcd
from routing.settings import QueueSettings

log = structlog.get_logger(__name__)

_REDIS_CONNECT_S = 2.0
_PROMPTS = "prompts"
_MOST_UNMADE = 10  # places that are named; without espeak-ng it would be all of them


_FLOWS_WITH_ERRORS = (
    "有错误的流程未生效,有上一个正确版本的沿用它 · "
    "flows with errors are not used; their last good version stays"
)


class Node:
    """One node of the platform, in one process."""

    def __init__(
        self,
        config: Config,
        directory: DataDirectory,
        *,
        services: Collection[Service] = ALL_SERVICES,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        """Make a node; `tell` takes lines for people about what takes long."""
        self.addresses: dict[str, str] = {}
        """Where it listens, once it has started."""
        self._config = config
        self._admission = Admission(config.access(), config.settings.limits, callers=config.callers)
        self._directory = directory
        self._services = frozenset(services)
        self._tell = tell
        self._stack = AsyncExitStack()
        self._is_started = False

    @property
    def settings(self) -> PlatformSettings:
        """The configuration in use."""
        return self._config.settings

    async def start(self) -> None:
        """Start all parts; the last one lets calls in. Raises PlatformError."""
        check_ports(self.settings, self._services)
        try:
            await self._start_stores()
            self._start_events()
            await self._start_flows()
            await self._start_agents()
            if Service.HTTP in self._services:
                await self._start_http()
            if Service.AGENTS in self._services:
                await self._start_toolbars()
            if Service.SIP in self._services:
                await self._start_calls()
        except BaseException:
            await self._stack.aclose()
            raise
        self._is_started = True

    async def stop(self) -> None:
        """Take no more calls, hang up those that are there, keep every record, end the stores."""
        self._is_started = False
        await self._stack.aclose()

    def drain(self) -> None:
        """Take no new calls from now on; proxies and carriers hear of it by their probes."""
        if self._is_started and Service.SIP in self._services:
            self._calls.drain()
            log.info("draining", calls=self._calls.calls)

    def _takes_calls(self) -> bool:
        """What proxies and carriers are told when they probe."""
        return not self._calls.is_draining and not self._media.reasons()

    def health(self) -> Health:
        """Tell whether calls are taken, and what is impaired."""
        reasons, impaired = [], []
        calls = 0
        if Service.SIP not in self._services:
            reasons.append("this process has no service sip")
        elif not self._is_started:
            reasons.append("starting or stopping")
        else:
            calls = self._calls.calls
            if self._calls.is_draining:
                reasons.append("draining")
            reasons += [f"flow {name} is not loaded" for name in self._missing_flows()]
            reasons += self._media.reasons()
            impaired += self._media.impaired()
            impaired += self._load_watch.impaired()
        if not self._bus.is_up:
            impaired.append("Redis takes no events: they go to the spool; queues and toolbars wait")
        if self._consumer is not None and not self._consumer.is_up:
            impaired.append("records are not written: events wait in the stream")
        return Health(self.settings.node, not reasons, calls, reasons, impaired)

    # Configuration while running

    async def reload(self, config: Config) -> list[str]:
        """Take over tenants, trunks, queues, agents, phones and flows; return remarks for people.

        Raises PlatformError, and then nothing has changed.
        """
        before, after = self.settings, config.settings
        # Those of many phones take seconds to read, and calls go on.
        credentials = await asyncio.to_thread(
            ensure_credentials, after, self._directory.secrets, self._directory.demo_credentials
        )
        if Service.SIP in self._services and before.sip.tls == after.sip.tls:
            self._signalling.reload_certificates()
        self._admission.load(config.access(), after.limits, callers=config.callers)
        self._credentials = credentials
        self._phones.load(after.tenants, credentials)
        self._defence.load(after.sip.defence)
        self._agents.load(*_agents_and_queues(after))
        self._acd.configure(self._agents.queue_ids())
        self._config = config
        if Service.SIP in self._services:
            self._load_watch.load(after.limits.load)
            self._trunks.reload()
        remarks = [
            f"{name}: takes effect after a restart"
            for name in ("node", "sip", "media", "grpc", "http", "flows")
            if getattr(before, name) != getattr(after, name)
        ]
        if _business_urls(before) != _business_urls(after):
            remarks.append("business: takes effect after a restart")
        if [t.id for t in before.tenants] != [t.id for t in after.tenants]:
            remarks.append("tenants: records of a new tenant are written after a restart")
        return remarks + await self._load_flows()

    # Parts, in the order in which they start

    async def _start_stores(self) -> None:
        lock = InstanceLock(self._directory)
        lock.acquire()
        self._stack.callback(lock.release)
        redis_url, self.database_url = await start_stores(self._directory, lock, self._stack)
        self._redis = self._redis_client(redis_url)
        self._redis_line = RedisLine(self._redis, on_round_trip=count_round_trip)
        self._stack.push_async_callback(self._redis_line.aclose)
        if urlsplit(self.database_url).scheme not in {"postgres", "postgresql"}:
            raise PlatformError(
                Code.CONFIG_INVALID, "DATABASE_URL: write postgresql://USER:PASSWORD@HOST/DATABASE"
            )
        try:
            self._pool = await asyncpg.create_pool(self.database_url, min_size=0, max_size=4)
        except (ValueError, asyncpg.InterfaceError) as error:
            raise PlatformError(Code.CONFIG_INVALID, f"DATABASE_URL: {error}") from error
        self._stack.push_async_callback(self._pool.close)
        self.records = RecordQueries(self._pool)

    def _redis_client(self, url: str) -> Redis:
        """A client that reports failures at once: each part knows how to make them good."""
        try:
            client = Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=_REDIS_CONNECT_S
            )
        except (ValueError, RedisError) as error:
            raise PlatformError(Code.CONFIG_INVALID, f"REDIS_URL: {error}") from error
        self._stack.push_async_callback(client.aclose)
        count_round_trips(client)
        return client

    def _start_events(self) -> None:
        self._consumer: EventConsumer | None = None
        if Service.REPORTS in self._services:
            self._consumer = EventConsumer(
                self._redis,
                self._pool,
                streams=[stream_name(tenant.id) for tenant in self.settings.tenants],
                member=self.settings.node,
                projections=[CallRecords(), AgentRecords(), RecordingIndex()],
                prepare=self._migrate,
            )
            self._consumer.start()
            self._stack.push_async_callback(self._consumer.stop)
        self._bus = EventBus(self._redis_line, self._directory.spool)
        self._bus.start()
        self._stack.push_async_callback(self._bus.stop)
        # Phones and nodes are known later than events: they are looked up when asked for.
        self._phone_dialogs = PhoneDialogs(self._is_phone)
        self._lamps = LampExchange(
            self._redis,
            self._redis_line,
            self._phone_dialogs,
            node=self.settings.node_id,
            tenants=[tenant.tenant_id for tenant in self.settings.tenants],
            is_alive=self._is_node_alive,
        )
        lamps = PhoneLamps(self._bus, self._lamps, is_phone=self._is_phone)
        self._events = EventStamp(self.settings.node_id, lamps)

    async def _migrate(self) -> None:
        async with self._pool.acquire() as connection:
            await migrate(
                connection, {"reports": _migrations(reports), "recording": _migrations(recording)}
            )

    async def _start_flows(self) -> None:
        clients = {
            tenant.tenant_id: BusinessClient(
                tenant.business.url, timeout_ms=tenant.business.timeout_ms
            )
            for tenant in self.settings.tenants
            if tenant.business is not None
        }
        self._business = BusinessSystems(clients)
        self._stack.push_async_callback(self._business.aclose)
        self._prompts = PromptStore(
            recorded=self._config.flows / _PROMPTS,
            cache=self._directory.prompts,
            synthesizer=EspeakSynthesizer(),
        )
        self._stack.push_async_callback(self._prompts.aclose)
        self._flows = FlowLibrary(self._config.flows)
        for remark in await self._load_flows():
            log.warning("flow problem", problem=remark)

    async def _load_flows(self) -> list[str]:
        problems = self._flows.load(queues=self.settings.queue_ids)
        unmade = await self._prompts.warm(self._flows.flows(), tell=self._tell)
        remarks = [str(problem) for problem in problems if problem.is_error]
        if remarks:
            remarks.append(_FLOWS_WITH_ERRORS)
        remarks += map(str, unmade[:_MOST_UNMADE])
        if (more := len(unmade) - _MOST_UNMADE) > 0:
            remarks.append(f"另有 {more} 处语音没有做成 · speech not made: {more} more places")
        return remarks

    def _missing_flows(self) -> list[str]:
        wanted = {
            flow
            for tenant in self.settings.tenants
            for code in tenant.access_codes
            for flow in (code.flow, *code.landing_flows.values())
        }
        return sorted(name for name in wanted if self._flows.get(name) is None)

    async def _start_agents(self) -> None:
        settings = self.settings
        self._credentials = ensure_credentials(
            settings, self._directory.secrets, self._directory.demo_credentials
        )
        self._phones = ConfiguredPhones(settings.tenants, self._credentials)
        self._contacts = RedisContactStore(self._redis_line, node=settings.node_id)
        self._stack.push_async_callback(self._contacts.aclose)
        self._proxies = TrustedProxies(settings.sip.trusted_proxies)
        self._defence = SourceDefence(
            settings.sip.defence,
            is_trusted=self._is_trusted,
            events=self._events,
            tenant=settings.tenants[0].tenant_id,
        )
        self._agents = Directory(*_agents_and_queues(settings))
        self._acd = RedisAcd(
            self._redis, self._redis_line, node=settings.node_id, tenants=self._agents.queue_ids()
        )
        self._desk = AgentDesk(
            acd=self._acd,
            directory=self._agents,
            events=self._events,
            passwords=PasswordCheck(self._verify_agent, asyncio.get_running_loop().time),
            phone_registered=self._is_registered,
        )
        self._acd.on_taken_over = self._desk.taken_over
        self._queues = QueueDistribution(
            acd=self._acd, desk=self._desk, directory=self._agents, events=self._events
        )
        await self._acd.start()
        self._stack.push_async_callback(self._acd.aclose)
        self._stack.push_async_callback(self._desk.aclose)

    def _verify_agent(self, tenant: TenantId, agent: AgentId, password: str) -> bool:
        return self._credentials.verify_agent(tenant, agent, password)

    def _is_node_alive(self, node: NodeId) -> bool:
        return self._contacts.is_alive(node)

    def _is_phone(self, tenant: TenantId, user: str) -> bool:
        return self._phones.exists(tenant, user)

    async def _is_registered(self, tenant: TenantId, phone: str) -> bool:
        return bool(await self._contacts.lookup(tenant, phone))

    async def _start_http(self) -> None:
        settings = self.settings.http
        self._stack.enter_context(LoopDelay())
        server = HttpServer(gateway(self.health, self._routers()), settings.host, settings.port)
        host, port = await server.start()
        self._stack.push_async_callback(server.stop)
        self.addresses["http"] = f"http://{_host(host)}:{port}"

    def _routers(self) -> list[APIRouter]:
        """What the parts of this node show on its gateway."""
        if Service.SIP not in self._services:
            return []
        return [
            bans_router(self._defence),
            trunks_router(self._trunk_statuses),
            media_router(self._media_status),
        ]

    def _media_status(self) -> dict[str, Any]:
        return self._media.status() if self._is_started else {}

    def _trunk_statuses(self) -> list[dict[str, Any]]:
        return self._trunks.statuses() if self._is_started else []

    async def _start_toolbars(self) -> None:
        settings = self.settings.grpc
        clients = Clients(lambda: self._credentials, self._client_of)
        server = ToolbarServer(
            AgentService(self._desk, self._agent_day),
            LiveAudioService(clients, self._listen, self._events),
            host=settings.host,
            port=settings.port,
        )
        host, port = await server.start()
        self._stack.push_async_callback(server.stop)
        self.addresses["grpc"] = f"{_host(host)}:{port}"

    def _client_of(self, tenant: TenantId, client: str) -> ClientSettings | None:
        return next(
            (
                each
                for one in self.settings.tenants
                if one.tenant_id == tenant
                for each in one.clients
                if each.id == client
            ),
            None,
        )

    def _listen(self, tenant: TenantId, call_id: CallId) -> Listening:
        if not self._is_started or Service.SIP not in self._services:
            raise PlatformError(Code.CALL_UNKNOWN)
        return self._calls.listen(tenant, call_id)

    async def _agent_day(self, tenant: TenantId, agent: AgentId) -> AgentDay:
        try:
            return await self.records.agent_day(tenant, agent)
        except DATABASE_ERRORS as error:
            raise PlatformError(Code.STORE_UNAVAILABLE, "records") from error

    async def _start_calls(self) -> None:
        settings = self.settings
        for tenant in settings.tenants:
            self._events.publish(tenant.tenant_id, NodeStarted())
        self._media = NodeMedia(
            settings.media,
            node=settings.node,
            directory=self._config.path.parent,
            recordings=self._directory.recordings,
            token=lambda: self._credentials.media_token,
            events=self._events,
            tenant=settings.tenants[0].tenant_id,
        )
        media = self._media.engine
        self._stack.push_async_callback(self._media.aclose)
        await self._media.start()
        self._stack.enter_context(CountsOnDemand("media", "Media engine", media.figures))
        self._signalling = Signalling(settings.sip, self._config.path.parent)
        self._stack.push_async_callback(self._signalling.aclose)
        endpoint = self._signalling.endpoint
        self._defend(endpoint)
        self._shed_load(endpoint, media.figures)
        registration = await self._start_registration(endpoint)
        user_agent = UserAgent(
            endpoint,
            on_invite=self._take_invite,
            registrar=registration.registrar,
            policy=settings.sip.session_policy,
        )
        self._stack.push_async_callback(user_agent.aclose)
        self._stack.enter_context(CountsOnDemand("sip", "SIP stack", user_agent.held))
        services = PhoneServices(
            user_agent,
            directory=self._phones,
            authenticator=registration.authenticator,
            contacts=self._contacts,
            lamps=self._phone_dialogs,
        )
        self._stack.push_async_callback(services.aclose)
        self._trunks = NodeTrunks(
            user_agent=user_agent,
            admission=self._admission,
            resolver=self._signalling.resolver,
            credentials=lambda: self._credentials,
            events=self._events,
            digest=registration.digest,
        )
        self._stack.push_async_callback(self._trunks.aclose)
        runner = FlowRunner(
            flows=self._flows,
            prompts=self._prompts,
            queries=self._business.of,
            queues=self._queues,
            events=self._events,
        )
        self._calls = CallControl(
            user_agent=user_agent,
            media=media,
            admission=self._admission,
            contacts=self._contacts,
            events=self._events,
            handler=runner.run,
            recording_path=_recording_place(self._directory.recordings),
            addresses=settings.media.addresses,
            domain=settings.sip.realm,
            media_timeout_ms=round(settings.media.media_timeout_s * 1000),
            recording_form=settings.media.recording_form,
            phones=PhoneAccess(self._phones, registration.authenticator, self._is_phone),
            outbound=self._trunks.outbound,
            hold_music=lambda: self._prompts.music(WAITING),
            on_stranger=self._on_stranger,
        )
        user_agent.is_available = self._takes_calls
        media.on_event = self._calls.on_media
        self._stack.push_async_callback(self._calls.aclose)
        self.addresses |= await self._signalling.listen()
        await registration.publish()
        self._lamps.start()
        self._stack.push_async_callback(self._lamps.aclose)
        self._trunks.start()

    async def _start_registration(self, endpoint: SipEndpoint) -> Registration:
        events = RegistrationEvents(self._phones, self._events)

        def on_failure(source: str, user: str) -> None:
            events.authentication_failed(source, user)
            self._defence.strike(source, Offence.GUESSING)

        registration = Registration(
            self.settings.sip,
            endpoint=endpoint,
            redis=self._redis,
            node=self.settings.node_id,
            phones=self._phones,
            contacts=self._contacts,
            events=events,
            on_failure=on_failure,
            on_success=self._defence.vouch,
        )
        self._stack.push_async_callback(registration.aclose)
        await registration.start()
        return registration

    def _defend(self, endpoint: SipEndpoint) -> None:
        """Let the defence judge what comes in from anybody but trunks and proxies of ours."""
        endpoint.guard = self._defence
        self._defence.start()
        self._stack.callback(self._defence.stop)

    def _shed_load(self, endpoint: SipEndpoint, media: Callable[[], Mapping[str, int]]) -> None:
        """Let new calls be refused while there is no time for them."""
        self._load_watch = endpoint.shedder = LoadWatch(
            self.settings.limits.load,
            is_trusted=self._is_trusted,
            is_phone=self._defence.is_phone,
            media=media,
            events=self._events,
            tenant=self.settings.tenants[0].tenant_id,
        )
        self._load_watch.start()
        self._stack.callback(self._load_watch.stop)

    def _is_trusted(self, address: str) -> bool:
        return self._admission.knows(address) or address in self._proxies

    def _on_stranger(self, source: str) -> None:
        # Whatever it came by: an INVITE that nobody was challenged for proves no address.
        self._defence.strike(source, Offence.STRANGER, is_forgeable=True)

    def _take_invite(self, session: InviteSession) -> None:
        self._calls.on_invite(session)


def _migrations(room: object) -> Path:
    file = getattr(room, "__file__", None)
    if file is None:
        raise RuntimeError("a room is not installed as files")
    return Path(file).parent / "migrations"


def _agents_and_queues(
    settings: PlatformSettings,
) -> tuple[dict[TenantId, list[AgentSettings]], dict[TenantId, list[QueueSettings]]]:
    agents = {tenant.tenant_id: tenant.agents for tenant in settings.tenants}
    queues = {tenant.tenant_id: tenant.queues for tenant in settings.tenants}
    return agents, queues


def _business_urls(settings: PlatformSettings) -> list[object]:
    return [tenant.business for tenant in settings.tenants]


def _recording_place(root: Path) -> Callable[[CallInfo, str], Path]:
    def place(info: CallInfo, recording_id: str) -> Path:
        return recording_path(
            root,
            tenant=info.tenant,
            call_id=info.call_id,
            recording_id=recording_id,
            arrived_unix_us=info.arrived_unix_us,
        )

    return place


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
