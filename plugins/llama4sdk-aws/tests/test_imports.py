"""The modules that the plugin imports."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import llama4sdk_aws, llama4sdk_aws.bedrock, llama4sdk_aws.sagemaker
from llama4sdk.backend import Need
from llama4sdk.endpoint import Endpoint
from llama4sdk.testing.machines import LAPTOP
llama4sdk_aws.llama4sdk_backends()
here = Endpoint(options={'region': 'us-east-1'}, api_key='ABSKexample')
offer = llama4sdk_aws.bedrock.BedrockBackend().offer(Need(model='scout', endpoint=here), LAPTOP)
assert offer.context_length, offer
print(sorted(name for name in sys.modules if name.split('.')[0] in ('botocore', 'boto3', 'urllib3', 'httpx', 'ssl')))
"""


def test_an_offer_loads_no_botocore() -> None:
    """Neither the plugin nor an offer loads botocore or httpx: only an engine does."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
