"""What vLLM says is in the file, and on the console in one line where it is the server's own error."""

import subprocess
import sys
from pathlib import Path

SAYS = """
import logging, sys
from serving.engine_log import EngineLog
EngineLog(sys.argv[1]).attach()
try:
    raise ValueError("the cause")
except ValueError:
    logging.getLogger("vllm.engine").error("It broke\\nin two lines", exc_info=True)
    logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=True)
    logging.getLogger("vllm.renderers.hf").error(
        "An error occurred in `transformers` while applying chat template", exc_info=True)
logging.getLogger("vllm.entrypoints.openai").error("Error with model %s", "x")
logging.getLogger("vllm.engine").info("no news")
"""


def test_the_console_has_the_servers_own_errors_alone(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    done = subprocess.run([sys.executable, "-c", SAYS, str(file)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "engine: It broke\n")
    whole = file.read_text()
    for words in ("in two lines", "ValueError: the cause", "never retrieved", "chat template", "Error with model x"):
        assert words in whole
    assert "no news" in whole


def test_progress_is_the_message_alone(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    said = (
        "import logging, sys; from serving.engine_log import EngineLog; log = EngineLog(sys.argv[1]); log.attach(); "
        'logging.getLogger("vllm.worker").info("Loading: 1 of 2"); print(log.last_line())'
    )
    done = subprocess.run([sys.executable, "-c", said, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "Loading: 1 of 2\n"
    assert file.read_text().endswith("vllm.worker: Loading: 1 of 2\n")
