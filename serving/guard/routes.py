"""The table of paths that exist. What it does not name does not exist: 404.

A path is compared whole, as it came on the wire, with a closed table. So no trick of spelling (`//v1`, `%2e`, case,
`/v1/../metrics`, a trailing slash, a query, a method override) reaches another route than the one that was judged.
"""

from dataclasses import dataclass
from enum import StrEnum

from serving.page import PATHS as PAGE


class Access(StrEnum):
    """Who may ask: anyone, or a key with the scope of that name."""

    PUBLIC = "public"
    INFERENCE = "inference"
    METRICS = "metrics"


@dataclass(frozen=True)
class Route:
    """One path that exists.

    `generates`: it takes a turn in the engine, so it is queued, timed and counted in tokens. `stream_end`: how the last
    event of its event stream begins; a stream that stops before one of these was cut off. `stream_begin`: how the
    events begin that come before any token. `named_events`: its events have an `event:` line. `quiet`: the page asks
    for it every few seconds, or for many at once, so its good answers are neither logged nor counted.
    """

    path: str
    access: Access
    methods: tuple[str, ...] = ("POST",)
    generates: bool = False
    stream_end: tuple[bytes, ...] = ()
    stream_begin: tuple[bytes, ...] = ()
    named_events: bool = False
    quiet: bool = False

    @property
    def takes_body(self) -> bool:
        """Whether a JSON body is read and judged before the engine sees it."""
        return "POST" in self.methods


READ = ("GET", "HEAD")
DONE = (b"data: [DONE]",)
RESPONSES_BEGIN = (b"event: response.created", b"event: response.in_progress")
RESPONSES_END = (
    b"event: response.completed",
    b"event: response.failed",
    b"event: response.incomplete",
    b"event: error",
)
MESSAGES_END = (b"event: message_stop", b"event: error")

ROUTES = (
    *(Route(path, Access.PUBLIC, READ, quiet=True) for path in PAGE),
    Route("/health", Access.PUBLIC, READ),
    Route("/ready", Access.PUBLIC, READ),
    Route("/metrics", Access.METRICS, READ),
    Route("/v1/models", Access.INFERENCE, READ),
    Route("/v1/chat/completions", Access.INFERENCE, generates=True, stream_end=DONE),
    Route("/v1/completions", Access.INFERENCE, generates=True, stream_end=DONE),
    Route(
        "/v1/responses",
        Access.INFERENCE,
        generates=True,
        stream_end=RESPONSES_END,
        stream_begin=RESPONSES_BEGIN,
        named_events=True,
    ),
    Route("/v1/messages", Access.INFERENCE, generates=True, stream_end=MESSAGES_END, named_events=True),
    Route("/v1/messages/count_tokens", Access.INFERENCE),
    # Its part about the load is only for keys with the scope metrics.
    Route("/status", Access.INFERENCE, READ, quiet=True),
    Route("/tokenize", Access.INFERENCE),
    Route("/detokenize", Access.INFERENCE),
)
UNKNOWN = Route("other", Access.PUBLIC, ())

# Routes of the engine's app that are known and stay closed, each looked at once. A test fails on one in neither table.
BLOCKED = frozenset(
    {
        # A description of the whole surface, and the versions behind it.
        "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/version", "/server_info", "/tokenizer_info",
        # State and load of the engine, for the operator: /metrics has them.
        "/load", "/ping", "/is_sleeping", "/is_paused", "/kv_event_sources", "/get_world_size", "/weight_info",
        # Other spellings of inference, which would need limits of their own.
        "/invocations", "/generative_scoring", "/inference/v1/generate", "/v1/chat/completions/batch",
        "/cohere/v2/chat", "/cohere/v2/chat/render", "/v1/messages/render", "/v1/chat/completions/render",
        "/v1/chat/completions/derender", "/v1/completions/render", "/v1/completions/derender",
        # Answers kept under an id: any key could read any other's.
        "/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel",
        # These change or stop the engine.
        "/abort_requests", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/start_profile", "/stop_profile", "/sleep",
        "/wake_up", "/pause", "/resume", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache",
        "/collective_rpc", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/adapters/{adapter_name}",
        "/fault_tolerance/apply", "/fault_tolerance/status", "/init_weight_transfer_engine", "/start_weight_update",
        "/start_draft_weight_update", "/update_weights", "/finish_weight_update", "/update_weight_version",
        # Tasks that no checkpoint of the family has.
        "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank", "/v1/embeddings",
        "/v2/embed", "/v1/audio/translations", "/v1/audio/transcriptions", "/v1/realtime",
    }
)  # fmt: skip
