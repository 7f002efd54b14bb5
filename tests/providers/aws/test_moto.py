"""moto's recording of every instance type, over the wire: what AWS says of its machines against our table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from builders.aws_server import aws_environment
from builders.patient_client import patient_client
from trainfare_providers.aws.account import Account, Call, find_account
from trainfare_providers.aws.machines import Machines, parse_instance_types, read_known_machines

TYPES = Call("ec2:DescribeInstanceTypes", "InstanceTypes")


@pytest.fixture(scope="module")
def described() -> Iterator[Machines]:
    """The real boto3, the real XML, moto's answer for the families that we ask for."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_environment(f"http://{host}:{port}").items():
            patch.setenv(name, value)
        with patient_client("aws") as http:
            account = find_account(http)
            assert isinstance(account, Account)
            filters = [{"Name": "instance-type", "Values": ["p*", "g*", "trn*", "inf*", "dl*", "u-p*"]}]
            yield parse_instance_types(account.pages(TYPES, "us-east-1", Filters=filters, MaxResults=100))
    server.stop()


def test_aws_and_our_table_agree(described: Machines) -> None:
    """Every accelerator machine of AWS's answer is in our table, with the same chips, vCPUs and memory."""
    known = read_known_machines()
    assert known.join(described).refused == ()
    assert set(described.names()) <= set(known.names())
    assert {"p4d.24xlarge", "p5en.48xlarge", "p6-b200.48xlarge", "g7e.48xlarge", "trn2.48xlarge"} <= set(
        described.names()
    )


def test_traps_of_the_answer_are_known(described: Machines) -> None:
    """Slices, Trainium2's memory, cards that report less than they have; which can be booked as blocks."""
    facts = {name: machine for name in described.names() if (machine := described.get(name))}
    for name, count in {"g6f.large": 0.125, "g6f.4xlarge": 0.5}.items():
        assert name not in facts or facts[name].accelerator_count == count
        assert (
            name not in described.refused
        )  # a boto3 that does not read partition sizes says nothing of a slice
    assert facts["trn2.48xlarge"].accelerator_memory_gib == 96
    assert facts["g6.xlarge"].accelerator_memory_gib == 24
    assert "trn2u.48xlarge" not in facts
    assert {"p4d.24xlarge", "p5.48xlarge", "trn1.32xlarge"} <= set(described.blocks())
    assert "g5.xlarge" not in described.blocks()
