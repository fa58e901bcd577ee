"""What an operator asks, as rows of panels: titles, units and PromQL. `make.py` turns this into Grafana's JSON.

`SERVER` and `CLUSTER` match what was chosen, `WINDOW` is Grafana's rate interval, `RANGE` the time shown.
"""

from dataclasses import dataclass, field

SERVER = 'namespace=~"$namespace", job=~"$job"'
CLUSTER = 'namespace=~"$namespace"'
WINDOW = "$__rate_interval"
RANGE = "$__range"


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` is Grafana's name of it; `limits` are values from which on it is amber, then red."""

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    stacked: bool = False
    most: float | None = None
    limits: tuple[float, ...] = field(default=())


def quantiles(histogram: str, objective: float | None = None) -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram, and the time it is held against."""
    rate = f"sum by (le) (rate({histogram}_bucket{{{SERVER}}}[{WINDOW}]))"
    shown = tuple(Query(f"histogram_quantile(0.{share}, {rate})", f"p{share}") for share in ("50", "95", "99"))
    return shown if objective is None else (*shown, Query(f"vector({objective:g})", "objective, p95"))


def rate(metric: str, by: str = "") -> Query:
    """A counter's increase per second, in all or by one label."""
    return Query(
        f"sum{f' by ({by})' if by else ''} (rate({metric}{{{SERVER}}}[{WINDOW}]))", f"{{{{{by}}}}}" if by else ""
    )


def mean(histogram: str, legend: str) -> Query:
    """A histogram's mean."""
    parts = (f"sum (rate({histogram}_{part}{{{SERVER}}}[{WINDOW}]))" for part in ("sum", "count"))
    return Query(" / ".join(parts), legend)


def named(query: Query, legend: str) -> Query:
    """The same query under another legend."""
    return Query(query.expr, legend, query.instant)


UP = (
    Panel(
        "Servers that answer",
        "How many servers Prometheus reached at its last scrape.",
        (Query(f"count(xuanyuan_draining{{{SERVER}}}) or vector(0)", "servers", instant=True),),
        kind="stat",
    ),
    Panel(
        "Alerts firing",
        "docs/runbooks.md says what to do about each.",
        (
            Query(
                f'count(ALERTS{{{CLUSTER}, alertstate="firing", alertname=~"XuanYuan.*"}}) or vector(0)',
                "alerts",
                instant=True,
            ),
        ),
        kind="stat",
        limits=(1, 3),
    ),
    Panel(
        "Answers by status",
        "499: the client left first.",
        (rate("xuanyuan_requests_total", "code"),),
        "reqps",
        stacked=True,
    ),
    Panel("Answers to Prometheus", "0: the server is gone.", (Query(f"up{{{SERVER}}}", "{{instance}}"),), most=1),
    Panel(
        "Starts within the hour",
        "Many in a row: the server dies and is started again.",
        (Query(f"changes(process_start_time_seconds{{{SERVER}}}[1h])", "{{instance}}"),),
    ),
    Panel(
        "Stopping, and broken keys files",
        "Draining: no new request is taken. A broken keys file: the last good keys are used.",
        (
            Query(f"sum(xuanyuan_draining{{{SERVER}}})", "draining"),
            Query(f"sum(xuanyuan_keys_file_broken{{{SERVER}}})", "keys file broken"),
        ),
    ),
)

FAST = (
    Panel(
        "First token",
        "From the request's arrival in the engine.",
        quantiles("vllm:time_to_first_token_seconds", 1),
        "s",
    ),
    Panel(
        "Time per token after the first",
        "Mean of each request.",
        quantiles("vllm:request_time_per_output_token_seconds", 0.1),
        "s",
    ),
    Panel("Whole answers", "As the client sees them, with everything.", quantiles("xuanyuan_request_seconds"), "s"),
    Panel(
        "How fast the error budget burns",
        "The last hour, by objective. 1: the month's budget lasts a month. 14.4 wakes someone. Needs the alert rules.",
        (
            Query(
                f"xuanyuan:slo_bad:ratio1h{{{SERVER}}} / on (slo) group_left () xuanyuan:slo_budget:ratio",
                "{{job}} {{slo}}",
            ),
            Query("vector(14.4)", "critical"),
        ),
    ),
    Panel(
        "Tokens",
        "Generated, and read in prompts.",
        (
            named(rate("vllm:generation_tokens_total"), "generated"),
            named(rate("vllm:prompt_tokens_total"), "read"),
        ),
        "tps",
    ),
    Panel(
        "Where the time goes",
        "Mean of a request: in the queue, reading its prompt, generating.",
        (
            mean("vllm:request_queue_time_seconds", "queue"),
            mean("vllm:request_prefill_time_seconds", "prompt"),
            mean("vllm:request_decode_time_seconds", "answer"),
        ),
        "s",
        stacked=True,
    ),
)

FULL = (
    Panel(
        "Requests in the engine",
        "Waiting for long: more comes in than is answered.",
        (
            Query(f"sum(vllm:num_requests_running{{{SERVER}}})", "running"),
            Query(f"sum(vllm:num_requests_waiting{{{SERVER}}})", "waiting"),
        ),
        stacked=True,
    ),
    Panel("Time in the queue", "", quantiles("vllm:request_queue_time_seconds"), "s"),
    Panel(
        "KV cache in use",
        "Full: running requests are preempted.",
        (Query(f"max by (instance) (vllm:kv_cache_usage_perc{{{SERVER}}})", "{{instance}}"),),
        "percentunit",
        most=1,
        limits=(0.8, 0.95),
    ),
    Panel(
        "Preemptions",
        "Requests that gave their KV cache back and are computed again.",
        (rate("vllm:num_preemptions_total", "instance"),),
    ),
    Panel(
        "Refused, ended or cut off, by reason",
        "docs/guard.md explains the reasons.",
        (rate("xuanyuan_rejections_total", "reason"),),
        "reqps",
        stacked=True,
    ),
    Panel(
        "Prompt tokens found in the cache",
        "The share of prompts that need not be computed.",
        (
            Query(
                f"sum(rate(vllm:prefix_cache_hits_total{{{SERVER}}}[{WINDOW}]))"
                f" / sum(rate(vllm:prefix_cache_queries_total{{{SERVER}}}[{WINDOW}]))",
                "share",
            ),
        ),
        "percentunit",
        most=1,
    ),
)

WHO = (
    Panel("Tokens by key", "Prompt and completion.", (rate("xuanyuan_tokens_total", "key"),), "tps", stacked=True),
    Panel("Requests by key", "", (rate("xuanyuan_requests_total", "key"),), "reqps", stacked=True),
    Panel(
        "Tokens in the time shown, by key",
        "",
        (
            Query(
                f"sort_desc(sum by (key, kind) (increase(xuanyuan_tokens_total{{{SERVER}}}[{RANGE}])))",
                "{{key}} {{kind}}",
                instant=True,
            ),
        ),
        kind="bargauge",
    ),
)

ATTACKED = (
    Panel(
        "Control tokens typed",
        "Spellings such as </s> in messages. They were encoded as text and did nothing.",
        (named(rate("xuanyuan_control_text_total"), "neutralized"),),
    ),
    Panel(
        "Turns forged",
        "Messages that imitate a turn (Human:, Assistant:), by what was done with them.",
        (rate("xuanyuan_turn_forgeries_total", "action"),),
    ),
    Panel(
        "Answers and conversations cut",
        "The model began the user's next turn; a conversation was longer than the context.",
        (
            named(rate("xuanyuan_self_turn_stops_total"), "next turn begun"),
            named(rate("xuanyuan_history_truncations_total"), "oldest turns dropped"),
        ),
    ),
)

RAY = (
    Panel(
        "Replicas that are healthy",
        "By deployment.",
        (
            Query(
                f"sum by (application, deployment) (ray_serve_deployment_replica_healthy{{{CLUSTER}}})",
                "{{application}} {{deployment}}",
            ),
        ),
    ),
    Panel(
        "Requests by deployment",
        "",
        (
            Query(
                f"sum by (deployment) (rate(ray_serve_deployment_request_counter_total{{{CLUSTER}}}[{WINDOW}]))",
                "{{deployment}}",
            ),
        ),
        "reqps",
    ),
    Panel(
        "Memory of nodes in use",
        "",
        (
            Query(
                f"sum by (instance) (ray_node_mem_used{{{CLUSTER}}})"
                f" / sum by (instance) (ray_node_mem_total{{{CLUSTER}}})",
                "{{instance}}",
            ),
        ),
        "percentunit",
        most=1,
        limits=(0.8, 0.95),
    ),
)

ROWS = (
    ("Is it up?", UP),
    ("Is it fast?", FAST),
    ("Is it full?", FULL),
    ("Who uses it?", WHO),
    ("Is the template attacked?", ATTACKED),
    ("Ray", RAY),
)
