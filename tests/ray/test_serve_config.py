"""`xuanyuan ray-config`: the YAML says what the settings say, and Ray Serve accepts it."""

import pytest
import yaml

from serving.config import load_config
from tests.server_process import xuanyuan


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_serve_takes_the_yaml_and_the_settings_come_back() -> None:
    from ray.serve.schema import ServeDeploySchema

    args = ["--replicas", "4", "--host", "0.0.0.0", "--allow-anonymous", "--routing", "prefix"]
    done = xuanyuan("ray-config", "XuanYuan-6B-Chat", *args, "--served-model-name", "财: #x")
    assert done.returncode == 0, done.stderr
    config = ServeDeploySchema(**yaml.safe_load(done.stdout))
    (application,) = config.applications
    assert application.import_path == "serving.cluster:app"
    assert (config.http_options.host, config.http_options.port) == ("0.0.0.0", 8000)
    env = application.runtime_env["env_vars"]
    assert env["RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY"] == "1"
    settings = load_config({}, {name: value for name, value in env.items() if name.startswith("XUANYUAN_")}).config
    assert (settings.model, settings.replicas, settings.routing) == ("XuanYuan-6B-Chat", 4, "prefix")
    assert settings.served_model_name == "财: #x"


def test_a_card_that_nobody_knows_is_refused() -> None:
    done = xuanyuan("ray-config", "--ray-gpu", "L20X")
    assert (done.returncode, done.stdout) == (2, "")
    assert "L20X" in done.stderr


def test_bad_settings_are_refused_in_one_line() -> None:
    done = xuanyuan("ray-config", "--autoscale", "3:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "xuanyuan: autoscale='3:1': expected MIN:MAX with 1 <= MIN <= MAX, such as 1:4\n"
