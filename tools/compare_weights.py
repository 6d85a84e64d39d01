"""Compares two safetensors files of f32 weights. Usage: compare_weights.py FIRST SECOND LARGEST

Exits 1 where names or shapes differ, or a weight differs by more than LARGEST.
"""

import array
import json
import struct
import sys


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = file.read()
    tensors = {}
    for name, tensor in header.items():
        assert tensor["dtype"] == "F32", f"{path}: {name}: expected F32, got {tensor['dtype']}"
        begin, end = tensor["data_offsets"]
        tensors[name] = (tensor["shape"], array.array("f", data[begin:end]))
    return tensors


def main():
    first, second, largest = read(sys.argv[1]), read(sys.argv[2]), float(sys.argv[3])
    assert {n: s for n, (s, _) in first.items()} == {n: s for n, (s, _) in second.items()}, "names or shapes differ"
    worst, where = 0.0, ""
    for name, (_, values) in first.items():
        difference = max((abs(a - b) for a, b in zip(values, second[name][1])), default=0.0)
        if not difference <= worst:  # a NaN counts
            worst, where = difference, name
    print(f"{sys.argv[1]} and {sys.argv[2]}: largest difference {worst:.3g} {where}")
    sys.exit(0 if worst <= largest else 1)


main()
