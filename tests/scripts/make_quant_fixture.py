"""Makes tests/fixtures/quants.bin: random blocks of every supported tensor type of GGUF, and the
numbers that an independent implementation finds in them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 numpy
    /tmp/venv/bin/python tests/scripts/make_quant_fixture.py tests/fixtures/quants.bin

Layout, little-endian: "PKQUANT1", u32 {types, rows, columns}; then per type u32 {type, bytes}, the
rows' blocks [bytes] and their values as f32 [rows, columns].
"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

SEED, ROWS, COLUMNS = 20, 5, 256
# Where the f16 numbers of a block lie; all its other bytes are codes, and any byte is a code.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
PLAIN = ["F32", "F16", "BF16"]


def halves(random, count):
    """f16 of many sizes and both signs, among them subnormals and, of many, a negative zero."""
    values = random.normal(size=count) * 10.0 ** random.uniform(-5, 1, size=count)
    values = values.astype(np.float16)
    special = np.array([0x83ff, 0x8000, 0x0001], np.uint16).view(np.float16)
    n_special = 3 if count > ROWS else 1
    values[1:1 + n_special] = special[:n_special]
    return values


def plain_rows(random, name):
    values = (random.normal(size=(ROWS, COLUMNS)) * 10.0 ** random.uniform(-6, 2, (ROWS, 1)))
    values = values.astype(np.float32)
    if name == "F16":
        return values.astype("<f2").view(np.uint8)
    return quants.quantize(values, GGMLQuantizationType.BF16) if name == "BF16" else (
        values.astype("<f4").view(np.uint8))


def block_rows(random, name):
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = random.integers(0, 256, (ROWS * COLUMNS // block, size), dtype=np.uint8)
    for at in HALVES[name]:
        blocks[:, at:at + 2] = halves(random, len(blocks)).astype("<f2").view(np.uint8).reshape(
            len(blocks), 2)
    return blocks.reshape(ROWS, -1)


def main(output):
    random = np.random.default_rng(SEED)
    with open(output, "wb") as file:
        file.write(b"PKQUANT1")
        file.write(np.array([len(PLAIN) + len(HALVES), ROWS, COLUMNS], "<u4").tobytes())
        for name in PLAIN + list(HALVES):
            kind = GGMLQuantizationType[name]
            rows = plain_rows(random, name) if name in PLAIN else block_rows(random, name)
            values = quants.dequantize(rows, kind).reshape(ROWS, COLUMNS).astype("<f4")
            assert np.isfinite(values).all(), name
            file.write(np.array([int(kind), rows.size], "<u4").tobytes())
            file.write(rows.tobytes())
            file.write(values.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
