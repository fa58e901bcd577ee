"""`vllm bench throughput`, with a server's flags: those that only a server knows are left out.

The `vllm` console script is not in every build, so its Python entry point is used.
"""

from vllm.benchmarks.throughput import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    main(parser.parse_known_args()[0])
