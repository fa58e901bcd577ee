"""`xuanyuan serve --ray --dry-run`: what one replica's engine would get, and refusals that need no Ray."""

import json
import os

from tests.server_process import xuanyuan


def test_a_replica_gets_its_share_of_this_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    bound = {}
    for copies in (1, cores):
        done = xuanyuan("serve", "--ray", "--replicas", str(copies), "--dry-run", "--json", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        bound[copies] = json.loads(done.stdout)["env"]["VLLM_CPU_OMP_THREADS_BIND"]
    assert len(bound[1].split(",")) == cores
    assert len(bound[cores].split(",")) == 1


def test_more_replicas_than_there_is_room_for() -> None:
    done = xuanyuan("serve", "--ray", "--replicas", "5000", "--dry-run", "--device", "cpu")
    assert (done.returncode, done.stdout) == (3, "")
    assert "placement: 5000 replicas" in done.stderr


def test_a_cluster_is_not_asked_and_that_is_said() -> None:
    words = ["--ray-address", "127.0.0.1:1", "--dry-run", "--device", "cpu"]
    done = xuanyuan("serve", "--ray", *words)
    assert done.returncode == 0, done.stderr
    assert "ray_address: a dry run asks no cluster" in done.stderr


def test_what_vllm_reads_itself_is_not_checked_and_that_is_said() -> None:
    done = xuanyuan("serve", "--dry-run", "--device", "cpu", "--", "--sead", "7")
    assert (done.returncode, "--sead" in done.stdout) == (0, True)
    assert "a dry run does not" in done.stderr
    assert "a dry run does not" not in xuanyuan("serve", "--dry-run", "--device", "cpu").stderr
