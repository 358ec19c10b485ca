"""What a user gets wrong: an error per line."""

from pathlib import Path

from osstorchconnector import OssClient, OssConfig, OssIterableDataset, new_data_object

OssIterableDataset.from_prefix(Path("oss://bucket/key"), "localhost")  # error: [arg-type]
OssIterableDataset.from_prefix("oss://bucket/key", "localhost", "/c")  # error: [call-arg]
OssConfig(max_attempts="3")  # error: [arg-type]
OssConfig(10.0)  # error: [call-arg]
OssConfig(signature_version="v5")  # error: [arg-type]
OssConfig(unknown=1)  # error: [call-arg]
OssConfig().max_attempts = 3  # error: [misc]
OssClient()  # error: [call-arg]
OssClient("localhost").put("oss://bucket/key", "text")  # error: [arg-type]
new_data_object("/bucket/key", 0).size = 3  # error: [misc]
number: int = new_data_object("/bucket/key", 0).read()  # error: [assignment]
