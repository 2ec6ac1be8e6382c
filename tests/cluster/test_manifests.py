"""What stands in ``cluster/`` is valid, pinned and closed to the world."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.files import (
    CLUSTER,
    PINS,
    ROOT,
    TEXTS,
    documents,
    invocations,
    launcher,
    options_of_ray,
    rayjob,
    shell_texts,
)

SHELL = shell_texts()
# In the environment's own folder, which need not be on the path.
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
REFUSED_BY_SYMMETRIC_RUN = {"--head", "--node-ip-address", "--port", "--block"}


# Shell


@pytest.mark.parametrize("name", SHELL)
def test_every_shell_text_is_valid_bash(name):
    subprocess.run(["bash", "-n"], input=SHELL[name], text=True, check=True)


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_scripts_and_commands(tmp_path):
    for name, text in SHELL.items():
        if not name.startswith("README"):
            (tmp_path / name.replace(" ", "-")).write_text(text)
    checked = subprocess.run(
        # no file to source
        [SHELLCHECK, "--shell=bash", "--exclude=SC1090,SC1091", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout == ""


def test_every_script_can_be_run():
    scripts = [path for path in CLUSTER.glob("*.sh") if not os.access(path, os.X_OK)]
    assert scripts == []


@pytest.mark.skipif(
    shutil.which("nft") is None or os.geteuid() != 0, reason="needs nft, and root to run it"
)
def test_the_firewall_is_a_valid_ruleset():
    subprocess.run(["nft", "--check", "--file", CLUSTER / "plain-firewall.nft"], check=True)


# Command lines


def test_the_command_lines_are_found():
    assert len(invocations("python -m rllib_lpdm")) >= 5
    assert len(invocations("ray ")) >= 15


@pytest.mark.parametrize("rest", invocations(r"python -m rllib_lpdm"))
def test_every_command_line_of_ours_parses_and_resumes(rest):
    module, *arguments = shlex.split(rest)
    parser = importlib.import_module(f"rllib_lpdm{module}")._parser()
    options = parser.parse_args(arguments)
    assert "$" in str(options.file) or (ROOT / options.file).is_file()
    assert options.resume == (options.address is not None)


@pytest.mark.parametrize("rest", invocations("ray "))
def test_every_option_of_ray_exists(rest):
    name, *arguments = shlex.split(rest.replace('"', ""))
    known = options_of_ray(name)
    if name == "symmetric-run":
        known |= options_of_ray("start") - REFUSED_BY_SYMMETRIC_RUN
        arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    given = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    assert given <= known


def test_every_path_of_the_repository_that_is_mentioned_exists():
    text = "\n".join(TEXTS.values())
    named = set(re.findall(r"(?<![\w.-])(?:cluster|tune_configs)/[\w./-]*\w", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()
    links = re.findall(r"\]\(([^)#]+)\)", TEXTS["README.md"])
    assert [link for link in links if not (CLUSTER / link).exists()] == []
    files = re.findall(r"`([\w-]+\.(?:yaml|sh|sbatch|nft))`", TEXTS["README.md"])
    assert set(files) <= set(TEXTS)


def test_every_link_within_the_readme_leads_to_a_heading():
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", TEXTS["README.md"], re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXTS["README.md"])) <= headings


# Versions


def test_the_version_of_ray_is_that_of_the_constraints_wherever_it_is_named():
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    tags = re.findall(r"rllib-lpdm:ray-(\S+)", "\n".join(TEXTS.values()))
    assert len(tags) >= 4
    assert set(tags) == {PINS["ray"]}


def test_every_way_installs_by_the_script_that_reads_the_constraints():
    assert "-c constraints.txt" in TEXTS["install.sh"]
    setup = " ".join(launcher()["setup_commands"])
    assert "cluster/install.sh" in setup
    assert "cluster/install.sh" in TEXTS["Dockerfile"]
    assert TEXTS["README.md"].count("cluster/install.sh\n") == 2
    others = "\n".join(text for name, text in TEXTS.items() if name != "install.sh")
    assert "pip install" not in others


# AWS


def test_the_launcher_file_is_valid_by_the_schema_and_the_checks_of_ray():
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(launcher(), schema)
    validate_config(prepare_config(launcher()))


def test_workers_are_spot_and_come_and_go_while_the_head_runs_no_cells():
    config = launcher()
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    (worker,) = types.values()
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= config["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert config["idle_timeout_minutes"] > 0


def test_every_node_on_aws_has_the_token_and_a_dashboard_for_itself_only():
    config = launcher()
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_the_security_group_opens_ssh_to_one_address_and_nothing_else_to_the_world():
    (stack,) = documents("aws-stack.yaml")
    group = stack["Resources"]["SecurityGroup"]["Properties"]
    assert group["GroupName"] == launcher()["provider"]["security_group"]["GroupName"]
    (rule,) = group["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (22, 22, ("Ref", "SshFrom"))
    among = stack["Resources"]["AmongNodes"]["Properties"]
    assert among["GroupId"] == among["SourceSecurityGroupId"]
    allowed = re.compile(stack["Parameters"]["SshFrom"]["AllowedPattern"])
    assert allowed.match("203.0.113.7/32")
    assert not allowed.match("0.0.0.0/0")
    assert not allowed.match("203.0.113.7/0")


def test_the_roles_and_the_stack_have_the_names_that_the_launcher_uses():
    (stack,) = documents("aws-stack.yaml")
    made = {
        resource["Properties"]["InstanceProfileName"]
        for resource in stack["Resources"].values()
        if resource["Type"] == "AWS::IAM::InstanceProfile"
    }
    types = launcher()["available_node_types"].values()
    assert {one["node_config"]["IamInstanceProfile"]["Name"] for one in types} == made
    assert (
        f'ec2:ResourceTag/ray-cluster-name": {launcher()["cluster_name"]}'
        in (TEXTS["aws-stack.yaml"])
    )


@pytest.mark.slow
def test_ray_starts_the_nodes_in_an_imitation_of_aws(tmp_path, monkeypatch):
    for name in ("boto3", "moto.cloudformation.models"):
        pytest.importorskip(
            name, reason="pip install boto3 'moto[cloudformation,ec2]'", exc_type=ImportError
        )
    import boto3
    import moto

    (tmp_path / ".ssh").mkdir()
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": launcher()["provider"]["region"],
    }.items():
        monkeypatch.setenv(name, value)
    with moto.mock_aws():
        boto3.client("cloudformation").create_stack(
            StackName="rllib-lpdm",
            TemplateBody=TEXTS["aws-stack.yaml"],
            Parameters=[{"ParameterKey": "SshFrom", "ParameterValue": "203.0.113.7/32"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        config = prepare_config(launcher())
        config = AWSNodeProvider.fillout_available_node_types_resources(config)
        assert config["available_node_types"]["worker"]["resources"]["CPU"] == 32
        config = AWSNodeProvider.bootstrap_config(config)
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for kind, one in config["available_node_types"].items():
            tags = {"ray-node-type": kind, "ray-cluster-name": config["cluster_name"]}
            provider.create_node(one["node_config"], tags, 1)
        ec2 = boto3.client("ec2")
        instances = [
            instance
            for reservation in ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        ]
        assert sorted(one.get("InstanceLifecycle", "") for one in instances) == ["", "spot"]
        assert {one["SecurityGroups"][0]["GroupName"] for one in instances} == {"rllib-lpdm"}
        (group,) = ec2.describe_security_groups(GroupNames=["rllib-lpdm"])["SecurityGroups"]
        addresses = [
            range["CidrIp"] for rule in group["IpPermissions"] for range in rule["IpRanges"]
        ]
        assert addresses == ["203.0.113.7/32"]


# The image


def test_the_image_runs_without_root_and_takes_only_what_it_needs():
    lines = TEXTS["Dockerfile"].splitlines()
    assert lines[-1] == "USER 1000"
    (base,) = (line for line in lines if line.startswith("FROM"))
    assert base.startswith("FROM python:3.11-")
    ignored = TEXTS["Dockerfile.dockerignore"].splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert [name for name in kept if not (ROOT / name).exists()] == []


# Secrets


def test_no_file_holds_a_secret():
    for name, text in TEXTS.items():
        assert not re.search(r"\b[0-9a-f]{32,}\b", text), name
        assert not re.search(r"AKIA[0-9A-Z]{16}", text), name
        values = re.findall(r"(?:WANDB_API_KEY|RAY_AUTH_TOKEN|SECRET_ACCESS_KEY)=(\S+)", text)
        assert [value for value in values if not value.startswith("$(")] == [], name
