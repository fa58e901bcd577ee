"""The guard's metrics, beside the engine's in the same registry, so that /metrics shows both.

prometheus_client decides at import whether values live in this process or in PROMETHEUS_MULTIPROC_DIR; the modes below
say how the values of several server processes are put together. Labels come from closed sets: routes of the table,
names in the keys file, codes that the guard or the engine answers with.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)

REQUESTS = Counter("xuanyuan_requests", "Requests answered", ["route", "key", "code"])
REJECTIONS = Counter("xuanyuan_rejections", "Requests refused, ended or cut off by the guard", ["reason"])
TOKENS = Counter("xuanyuan_tokens", "Tokens, as the engine counts them", ["key", "kind"])
FIRST_TOKEN = Histogram(
    "xuanyuan_first_token_seconds", "Time to the first token of a stream", ["route"], buckets=SECONDS
)
TOTAL = Histogram("xuanyuan_request_seconds", "Time to the end of the answer", ["route"], buckets=SECONDS)
IN_FLIGHT = Gauge("xuanyuan_requests_in_flight", "Requests being answered", multiprocess_mode="livesum")
QUEUED = Gauge("xuanyuan_queued", "Answers beyond what the engine generates at a time", multiprocess_mode="livesum")
DRAINING = Gauge("xuanyuan_draining", "1 while no new request is taken", multiprocess_mode="livemax")
KEYS_FILE_BROKEN = Gauge(
    "xuanyuan_keys_file_broken", "1 while the last good keys are used", multiprocess_mode="livemax"
)
STORAGE_FAILURES = Counter("xuanyuan_rate_limit_failures", "Times the storage of the rate limits did not answer")
LOG_FAILURES = Counter("xuanyuan_log_failures", "Access lines that could not be written")
