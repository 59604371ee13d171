"""The error catalogue: one entry a failure, for every protocol and reader it reaches.

Code branches on `Code`, never on message text. Each entry names the SIP status sent to a caller or
phone, the gRPC status sent to a client, the Q.850 cause for trunks, the outcome a report counts,
and the words in Chinese and English.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable names of failures and of normal endings; they are stored in records, never renamed."""

    # Normal endings of a call
    CALLER_HUNG_UP = "caller_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    FLOW_ENDED = "flow_ended"
    CALLER_ABANDONED = "caller_abandoned"
    CALL_TRANSFERRED = "call_transferred"
    FAR_END_HUNG_UP = "far_end_hung_up"

    # Admission
    TRUNK_UNKNOWN = "trunk_unknown"
    ACCESS_CODE_UNKNOWN = "access_code_unknown"
    TRUNK_BUSY = "trunk_busy"
    NODE_DRAINING = "node_draining"
    OVERLOADED = "overloaded"
    LOAD_SHED = "load_shed"
    ACCESS_CODE_BUSY = "access_code_busy"
    NUMBER_BLOCKED = "number_blocked"

    # Calls that went with their node
    NODE_STOPPED = "node_stopped"
    NODE_LOST = "node_lost"

    # Signalling and media
    SIP_MALFORMED = "sip_malformed"
    SDP_MALFORMED = "sdp_malformed"
    NO_COMMON_CODEC = "no_common_codec"
    NO_COMMON_PROTECTION = "no_common_protection"
    MEDIA_PORTS_EXHAUSTED = "media_ports_exhausted"
    MEDIA_TIMEOUT = "media_timeout"
    SECURE_MEDIA_FAILED = "secure_media_failed"
    MEDIA_UNAVAILABLE = "media_unavailable"
    SIP_TIMEOUT = "sip_timeout"
    SIP_TRANSPORT = "sip_transport"
    DNS_FAILED = "dns_failed"
    ACK_MISSING = "ack_missing"
    METHOD_UNSUPPORTED = "method_unsupported"
    SOURCE_BANNED = "source_banned"

    # Phones and far ends
    AUTHENTICATION_FAILED = "authentication_failed"
    PHONE_NOT_REGISTERED = "phone_not_registered"
    PHONE_UNREACHABLE = "phone_unreachable"
    PHONE_AT_LIMIT = "phone_at_limit"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"
    FAR_END_REFUSED = "far_end_refused"
    MOVED = "moved"
    NO_TRUNK = "no_trunk"
    NUMBER_FORBIDDEN = "number_forbidden"
    TRANSFER_FORBIDDEN = "transfer_forbidden"
    TRANSFER_TARGET_UNKNOWN = "transfer_target_unknown"

    # Flows
    FLOW_MISSING = "flow_missing"
    FLOW_INVALID = "flow_invalid"
    FLOW_LOOP = "flow_loop"
    PROMPT_FAILED = "prompt_failed"
    QUERY_TIMEOUT = "query_timeout"
    QUERY_FAILED = "query_failed"

    # Queues
    QUEUE_UNKNOWN = "queue_unknown"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    QUEUE_NO_AGENTS = "queue_no_agents"
    QUEUE_UNAVAILABLE = "queue_unavailable"

    # Agents' commands
    AGENT_UNKNOWN = "agent_unknown"
    PASSWORD_WRONG = "password_wrong"  # noqa: S105
    AGENT_LOCKED = "agent_locked"
    SIGNED_IN_ELSEWHERE = "signed_in_elsewhere"
    NOT_SIGNED_IN = "not_signed_in"
    SESSION_INVALID = "session_invalid"
    STATE_FORBIDS = "state_forbids"
    NO_CALL = "no_call"
    PHONE_CANNOT_ANSWER_REMOTELY = "phone_cannot_answer_remotely"
    NOT_READY_FIRST = "not_ready_first"
    CALL_AT_OTHER_NODE = "call_at_other_node"
    EXPERT_UNKNOWN = "expert_unknown"
    CONVERSATION_FULL = "conversation_full"

    # Programs that use the platform
    TOKEN_INVALID = "token_invalid"  # noqa: S105
    RIGHT_MISSING = "right_missing"
    CALL_UNKNOWN = "call_unknown"

    # The platform itself
    CONFIG_INVALID = "config_invalid"
    STORE_UNAVAILABLE = "store_unavailable"
    RECORDING_FAILED = "recording_failed"
    INTERNAL = "internal"


class Outcome(StrEnum):
    """What a report counts an ending as."""

    COMPLETED = "completed"
    ABANDONED = "abandoned"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """One catalogue entry; `zh` and `en` are the words shown, without details."""

    code: Code
    sip_status: int
    grpc_status: str
    q850_cause: int
    outcome: Outcome
    zh: str
    en: str


def _entry(
    code: Code, sip: int, grpc: str, q850: int, outcome: Outcome, zh: str, en: str
) -> tuple[Code, Failure]:
    return code, Failure(code, sip, grpc, q850, outcome, zh, en)


_DONE, _LEFT, _NO, _BAD = Outcome.COMPLETED, Outcome.ABANDONED, Outcome.REFUSED, Outcome.FAILED

# fmt: off
# Q.850 causes: ITU-T Q.850 table 1; their SIP statuses: RFC 3398 section 8.2.6.
CATALOGUE: dict[Code, Failure] = dict([
    _entry(Code.CALLER_HUNG_UP, 200, "OK", 16, _DONE, "客户挂机", "caller hung up"),
    _entry(Code.AGENT_HUNG_UP, 200, "OK", 16, _DONE, "坐席挂机", "agent hung up"),
    _entry(Code.FLOW_ENDED, 200, "OK", 16, _DONE, "流程结束", "flow ended"),
    _entry(Code.CALLER_ABANDONED, 487, "CANCELLED", 16, _LEFT, "客户放弃", "caller gave up"),
    _entry(Code.CALL_TRANSFERRED, 200, "OK", 16, _DONE, "通话已转移", "call was transferred"),
    _entry(Code.FAR_END_HUNG_UP, 200, "OK", 16, _DONE, "对方挂机", "far end hung up"),
    _entry(Code.TRUNK_UNKNOWN, 403, "PERMISSION_DENIED", 21, _NO,
           "来源地址不属于任何中继", "source address belongs to no trunk"),
    _entry(Code.ACCESS_CODE_UNKNOWN, 404, "NOT_FOUND", 1, _NO,
           "接入码未配置", "access code is not configured"),
    _entry(Code.TRUNK_BUSY, 503, "RESOURCE_EXHAUSTED", 34, _NO,
           "中继达到上限", "trunk is at its limit"),
    _entry(Code.NODE_DRAINING, 503, "UNAVAILABLE", 42, _NO,
           "节点正在停止接入", "node takes no new calls"),
    _entry(Code.OVERLOADED, 503, "RESOURCE_EXHAUSTED", 42, _NO,
           "系统过载", "platform is overloaded"),
    _entry(Code.LOAD_SHED, 503, "RESOURCE_EXHAUSTED", 42, _NO,
           "处理不过来,部分新来电请稍后再拨",
           "there is too much work: some new calls are asked to come back later"),
    _entry(Code.ACCESS_CODE_BUSY, 503, "RESOURCE_EXHAUSTED", 34, _NO,
           "接入码达到上限", "access code is at its limit"),
    _entry(Code.NUMBER_BLOCKED, 603, "PERMISSION_DENIED", 21, _NO,
           "主叫号码在黑名单中", "caller's number is on a black list"),
    _entry(Code.NODE_STOPPED, 503, "UNAVAILABLE", 41, _BAD,
           "节点停止,通话中断", "node was stopped during the call"),
    _entry(Code.NODE_LOST, 503, "UNAVAILABLE", 41, _BAD,
           "节点异常终止,通话中断", "node died during the call"),
    _entry(Code.SIP_MALFORMED, 400, "INVALID_ARGUMENT", 111, _NO,
           "SIP 消息格式错误", "SIP message is malformed"),
    _entry(Code.SDP_MALFORMED, 400, "INVALID_ARGUMENT", 111, _NO,
           "SDP 格式错误", "SDP is malformed"),
    _entry(Code.NO_COMMON_CODEC, 488, "FAILED_PRECONDITION", 88, _NO,
           "没有共同的编解码", "no codec in common"),
    _entry(Code.NO_COMMON_PROTECTION, 488, "FAILED_PRECONDITION", 88, _NO,
           "没有共同的媒体加密方式", "no protection of media in common"),
    _entry(Code.MEDIA_PORTS_EXHAUSTED, 503, "RESOURCE_EXHAUSTED", 34, _NO,
           "媒体端口用尽", "no media port is free"),
    _entry(Code.MEDIA_TIMEOUT, 408, "DEADLINE_EXCEEDED", 41, _BAD,
           "长时间未收到语音", "no audio was received for too long"),
    _entry(Code.SECURE_MEDIA_FAILED, 500, "FAILED_PRECONDITION", 47, _BAD,
           "媒体加密协商失败(ICE 或 DTLS)", "media could not be secured (ICE or DTLS)"),
    _entry(Code.MEDIA_UNAVAILABLE, 503, "UNAVAILABLE", 41, _BAD,
           "媒体进程不可用", "the media process is not available"),
    _entry(Code.SIP_TIMEOUT, 408, "DEADLINE_EXCEEDED", 102, _BAD,
           "对端无应答(SIP 超时)", "far end did not answer in time (SIP timer)"),
    _entry(Code.SIP_TRANSPORT, 503, "UNAVAILABLE", 38, _BAD,
           "SIP 传输失败", "SIP transport failed"),
    _entry(Code.DNS_FAILED, 503, "UNAVAILABLE", 38, _BAD,
           "域名解析失败", "host name could not be resolved"),
    _entry(Code.ACK_MISSING, 408, "DEADLINE_EXCEEDED", 102, _BAD,
           "应答后未收到 ACK", "no ACK followed the answer"),
    _entry(Code.METHOD_UNSUPPORTED, 405, "UNIMPLEMENTED", 79, _NO,
           "不支持的 SIP 方法", "SIP method is not supported"),
    _entry(Code.SOURCE_BANNED, 403, "PERMISSION_DENIED", 21, _NO,
           "来源地址因滥用被暂时封禁", "source address is shut out for a while"),
    _entry(Code.AUTHENTICATION_FAILED, 401, "UNAUTHENTICATED", 21, _NO,
           "认证失败", "authentication failed"),
    _entry(Code.PHONE_NOT_REGISTERED, 480, "UNAVAILABLE", 20, _BAD,
           "话机未注册", "phone is not registered"),
    _entry(Code.PHONE_AT_LIMIT, 486, "RESOURCE_EXHAUSTED", 17, _NO,
           "该话机的通话数已到上限", "phone has as many calls as it may have"),
    _entry(Code.PHONE_UNREACHABLE, 480, "UNAVAILABLE", 27, _BAD,
           "话机无法接通", "phone cannot be reached"),
    _entry(Code.NO_ANSWER, 480, "DEADLINE_EXCEEDED", 19, _BAD, "振铃无应答", "rang without answer"),
    _entry(Code.BUSY, 486, "UNAVAILABLE", 17, _BAD, "被叫忙", "far end is busy"),
    _entry(Code.DECLINED, 603, "CANCELLED", 21, _BAD, "被叫拒接", "far end declined"),
    _entry(Code.FAR_END_REFUSED, 502, "UNAVAILABLE", 31, _BAD, "对端拒绝", "far end refused"),
    _entry(Code.MOVED, 502, "UNAVAILABLE", 23, _BAD,
           "对端要求改呼其他号码", "far end asks to be called elsewhere"),
    _entry(Code.NO_TRUNK, 503, "UNAVAILABLE", 34, _BAD,
           "没有可用的中继", "no trunk can take the call"),
    _entry(Code.NUMBER_FORBIDDEN, 403, "PERMISSION_DENIED", 21, _NO,
           "不允许外呼此号码", "this number may not be called"),
    _entry(Code.TRANSFER_FORBIDDEN, 403, "PERMISSION_DENIED", 21, _NO,
           "不允许转移此通话", "this call may not be transferred"),
    _entry(Code.TRANSFER_TARGET_UNKNOWN, 404, "NOT_FOUND", 1, _NO,
           "转移目标不存在", "there is no such transfer target"),
    _entry(Code.FLOW_MISSING, 480, "NOT_FOUND", 41, _BAD, "流程不存在", "flow does not exist"),
    _entry(Code.FLOW_INVALID, 500, "INVALID_ARGUMENT", 41, _BAD,
           "流程有错误", "flow has errors"),
    _entry(Code.FLOW_LOOP, 500, "ABORTED", 41, _BAD,
           "流程循环未收听客户", "flow loops without listening to the caller"),
    _entry(Code.PROMPT_FAILED, 500, "INTERNAL", 41, _BAD,
           "语音合成或播放失败", "prompt could not be made or played"),
    _entry(Code.QUERY_TIMEOUT, 504, "DEADLINE_EXCEEDED", 41, _BAD,
           "业务系统超时", "business system did not answer in time"),
    _entry(Code.QUERY_FAILED, 502, "UNAVAILABLE", 41, _BAD,
           "业务系统出错", "business system answered with an error"),
    _entry(Code.QUEUE_UNKNOWN, 404, "NOT_FOUND", 1, _BAD, "队列未配置", "queue is not configured"),
    _entry(Code.QUEUE_FULL, 486, "RESOURCE_EXHAUSTED", 34, _BAD,
           "队列已满", "queue is full"),
    _entry(Code.QUEUE_TIMEOUT, 480, "DEADLINE_EXCEEDED", 19, _BAD,
           "排队超时", "waited in the queue for too long"),
    _entry(Code.QUEUE_NO_AGENTS, 480, "UNAVAILABLE", 20, _BAD,
           "没有签入的坐席", "no agent is signed in"),
    _entry(Code.QUEUE_UNAVAILABLE, 503, "UNAVAILABLE", 41, _BAD,
           "排队服务暂不可用", "queueing is not available"),
    _entry(Code.AGENT_UNKNOWN, 404, "NOT_FOUND", 1, _NO,
           "工号不存在或密码错误", "agent number or password is wrong"),
    _entry(Code.PASSWORD_WRONG, 401, "UNAUTHENTICATED", 21, _NO,
           "工号不存在或密码错误", "agent number or password is wrong"),
    _entry(Code.AGENT_LOCKED, 403, "PERMISSION_DENIED", 21, _NO,
           "密码连续输错,请稍后再试", "too many wrong passwords, try again later"),
    _entry(Code.SIGNED_IN_ELSEWHERE, 409, "ALREADY_EXISTS", 41, _NO,
           "该工号已在别处签入", "agent is already signed in elsewhere"),
    _entry(Code.NOT_SIGNED_IN, 403, "FAILED_PRECONDITION", 41, _NO,
           "尚未签入", "agent is not signed in"),
    _entry(Code.SESSION_INVALID, 401, "UNAUTHENTICATED", 21, _NO,
           "会话已失效,请重新签入", "session has ended, sign in again"),
    _entry(Code.STATE_FORBIDS, 403, "FAILED_PRECONDITION", 41, _NO,
           "当前状态不允许此操作", "the present state forbids this command"),
    _entry(Code.NO_CALL, 481, "FAILED_PRECONDITION", 41, _NO,
           "当前没有通话", "there is no call"),
    _entry(Code.PHONE_CANNOT_ANSWER_REMOTELY, 488, "FAILED_PRECONDITION", 88, _NO,
           "话机不支持远程应答,请在话机上接听", "phone cannot be answered remotely, pick it up"),
    _entry(Code.TOKEN_INVALID, 401, "UNAUTHENTICATED", 21, _NO,
           "令牌无效", "token is not valid"),
    _entry(Code.RIGHT_MISSING, 403, "PERMISSION_DENIED", 21, _NO,
           "没有此项权限", "this right has not been given"),
    _entry(Code.CALL_UNKNOWN, 404, "NOT_FOUND", 1, _NO,
           "此节点没有这个进行中的通话", "no such call is in progress at this node"),
    _entry(Code.NOT_READY_FIRST, 403, "FAILED_PRECONDITION", 41, _NO,
           "请先示忙,再监控其他坐席", "go not ready before you supervise others"),
    _entry(Code.CALL_AT_OTHER_NODE, 403, "FAILED_PRECONDITION", 41, _NO,
           "通话在另一节点上,不能执行此操作",
           "the call is at another node, where this command does not reach"),
    _entry(Code.EXPERT_UNKNOWN, 404, "NOT_FOUND", 1, _NO,
           "求助对象不存在", "there is nobody to consult by that name or number"),
    _entry(Code.CONVERSATION_FULL, 486, "RESOURCE_EXHAUSTED", 34, _NO,
           "通话人数已到上限,请等有人退出后再试",
           "conversation has as many parties as it may have, try again when somebody has left"),
    _entry(Code.CONFIG_INVALID, 500, "INVALID_ARGUMENT", 41, _BAD,
           "配置有错误", "configuration has errors"),
    _entry(Code.STORE_UNAVAILABLE, 503, "UNAVAILABLE", 41, _BAD,
           "数据库暂不可用", "store is not available"),
    _entry(Code.RECORDING_FAILED, 500, "INTERNAL", 41, _BAD, "录音失败", "recording failed"),
    _entry(Code.INTERNAL, 500, "INTERNAL", 41, _BAD, "系统内部错误", "internal error"),
])
# fmt: on


class PlatformError(Exception):
    """A failure of the catalogue, with where and why it happened.

    `detail` is for people and logs: place, reason and remedy, never a secret or a full number.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        words = CATALOGUE[code].en
        super().__init__(f"{code}: {words} ({detail})" if detail else f"{code}: {words}")

    @property
    def failure(self) -> Failure:
        """The catalogue entry."""
        return CATALOGUE[self.code]
