"""`vllm bench serve`, run again for each line on stdin: the oracle's side of `python -m benchmarks oracle`.

The `vllm` console script is not in every build, so its Python entry point is used. The imports take longer than a run:
hence one process for all runs. The first line on stdout says that it is ready, each further one is a result.
"""

import argparse
import asyncio
import json
import os
import sys


def main() -> None:
    # Results go to the real stdout; all else that is printed, vLLM's log included, to stderr.
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from vllm.benchmarks.serve import add_cli_args, main_async

    parser = argparse.ArgumentParser()
    add_cli_args(parser)
    parser.parse_args()
    print("ready", file=results)
    for _ in sys.stdin:
        # Parsed anew, since a run changes its arguments.
        print(json.dumps(asyncio.run(main_async(parser.parse_args()))), file=results)


if __name__ == "__main__":
    main()
