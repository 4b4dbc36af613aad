"""The little of Kafka's formats that the suites read without a client: ApiVersions, and the headers of stored batches."""

import glob
import socket
import struct

LIST_GROUPS, DESCRIBE_GROUPS = 16, 15
CODEC_NAMES = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


def api_versions(bootstrap):
    """{api key: (lowest, highest version)} as the broker tells it (ApiVersions v0)."""
    host, port = bootstrap.rsplit(":", 1)
    client_id = b"compat"
    request = struct.pack(">hhih", 18, 0, 1, len(client_id)) + client_id
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(s, 4))
        answer = _exactly(s, size)
    _correlation, error, count = struct.unpack_from(">ihi", answer)
    if error:
        raise AssertionError(f"ApiVersions v0 answered error {error}")
    return {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[10 : 10 + 6 * count])}


def _exactly(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        if not more:
            raise AssertionError(f"the broker closed the connection after {len(data)} of {size} bytes")
        data += more
    return data


def segments(data_dir, topic, partition):
    """The segment files of a partition, in the order of their base offsets."""
    return sorted(glob.glob(f"{data_dir}/**/{topic}-{partition}/*.log", recursive=True))


def stored_codecs(paths):
    """The codecs of the batches in these files, and how many records the headers count."""
    codecs, records = set(), 0
    for path in paths:
        data = open(path, "rb").read()
        at = 0
        while at + 61 <= len(data):
            _base, length, _epoch, magic = struct.unpack_from(">qiib", data, at)
            if length <= 0:
                break  # a preallocated end
            assert magic == 2, f"{path} at {at}: magic {magic}"
            (attributes,) = struct.unpack_from(">h", data, at + 21)
            (count,) = struct.unpack_from(">i", data, at + 57)
            codecs.add(CODEC_NAMES[attributes & 7])
            records += count
            at += 12 + length
    return codecs, records
