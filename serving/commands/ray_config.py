"""Print the YAML with which `serve deploy` or KubeRay runs this service, from the same settings as `xuanyuan serve`.

xuanyuan ray-config XuanYuan-6B-Chat --replicas 4 --host 0.0.0.0 --keys-file /keys/keys.json > serve.yaml
serve deploy serve.yaml
"""

import argparse
import os

from serving.config import load_config
from serving.flags import add_setting_flags, given
from serving.hardware import declared
from serving.ray.serve_config import as_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and every setting."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as in `xuanyuan serve`")
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print it. Raises ConfigError."""
    config = load_config(given(args), os.environ, args.config).config
    if config.ray_gpu:
        declared(config.ray_gpu)
    print(as_yaml(config), end="")
    return 0
