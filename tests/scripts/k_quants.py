"""Rows of f32 as blocks of Q4_K, Q5_K and Q6_K: the Python package of GGUF only reads them. Each
sub-block's scale and minimum are those of its largest and smallest number: not the best there are,
but blocks like any other. Only the steps of scales have few bits, so that step times scale is an
f16: a model image holds these products as f16, and then a test need not allow for their rounding.
"""
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import quants

SUPER = 256  # numbers of a block


def _halves(values, bits):
    """f16, rounded up to so many bits."""
    fraction, exponent = np.frexp(values)
    rounded = np.ldexp(np.ceil(fraction * (1 << bits)) / (1 << bits), exponent)
    halves = rounded.astype("<f2")
    assert (halves == rounded).all()
    return halves


def _quotients(values, steps):
    return np.divide(values, steps, out=np.zeros_like(values), where=steps > 0)


def _pack_scales(scales, minima):
    """Eight of each, 6 bits: in 12 bytes, the upper bits of the last four behind the first."""
    low = scales[:, :4] | scales[:, 4:] >> 4 << 6
    middle = minima[:, :4] | minima[:, 4:] >> 4 << 6
    high = scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4
    return np.concatenate([low, middle, high], axis=1)


def _with_minimum(blocks, bits):
    """value = d * scale * code - d_min * minimum, by sub-blocks of 32."""
    most = (1 << bits) - 1
    parts = blocks.reshape(-1, 8, 32)
    minimum = np.maximum(0, -parts.min(axis=2))
    step = (parts.max(axis=2) + minimum) / most
    d = _halves(step.max(axis=1, keepdims=True) / 63, 5)  # scales have 6
    d_min = _halves(minimum.max(axis=1, keepdims=True) / 63, 5)
    scales = np.clip(np.rint(_quotients(step, np.broadcast_to(d.astype("f4"), step.shape))), 0, 63)
    minima = np.clip(np.rint(_quotients(minimum, np.broadcast_to(d_min.astype("f4"), step.shape))),
                     0, 63)
    steps = (d.astype("f4") * scales)[:, :, None]
    lifted = parts + (d_min.astype("f4") * minima)[:, :, None]
    codes = np.clip(np.rint(_quotients(lifted, np.broadcast_to(steps, lifted.shape))), 0, most)
    codes = codes.astype(np.uint8)
    packed = _pack_scales(scales.astype(np.uint8), minima.astype(np.uint8))
    nibbles = (codes[:, 0::2] & 15 | (codes[:, 1::2] & 15) << 4).reshape(-1, SUPER // 2)
    upper = np.zeros((len(codes), 32), np.uint8)
    for part in range(8):
        upper |= codes[:, part] >> 4 << part
    head = [d.view(np.uint8), d_min.view(np.uint8), packed]
    return np.concatenate(head + ([upper] if bits == 5 else []) + [nibbles], axis=1)


def _signed(blocks):
    """value = d * scale * (code - 32), by sub-blocks of 16."""
    parts = blocks.reshape(-1, 16, 16)
    step = np.abs(parts).max(axis=2) / 31
    d = _halves(step.max(axis=1, keepdims=True) / 127, 4)  # scales have 7
    scales = np.clip(np.rint(_quotients(step, np.broadcast_to(d.astype("f4"), step.shape))), 0, 127)
    steps = (d.astype("f4") * scales)[:, :, None]
    codes = np.clip(np.rint(_quotients(parts, np.broadcast_to(steps, parts.shape))), -32, 31) + 32
    codes = codes.astype(np.uint8).reshape(-1, 2, 4, 32)  # quarters of a half
    low, high = codes & 15, codes >> 4
    nibbles = (low[:, :, :2] | low[:, :, 2:] << 4).reshape(-1, SUPER // 2)
    upper = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    return np.concatenate([nibbles, upper.reshape(-1, SUPER // 4), scales.astype(np.uint8),
                           d.view(np.uint8)], axis=1)


def quantize_k(weight, kind):
    """weight: [rows, columns], columns a multiple of 256 -> bytes [rows, ...]."""
    blocks = weight.reshape(-1, SUPER)
    made = _signed(blocks) if kind == Q.Q6_K else _with_minimum(blocks, 4 if kind == Q.Q4_K else 5)
    rows = np.ascontiguousarray(made).reshape(len(weight), -1)
    left = np.abs(quants.dequantize(rows, kind) - weight)
    reach = np.abs(blocks).max(axis=1).repeat(SUPER).reshape(weight.shape)
    assert (left <= reach * {Q.Q4_K: 0.16, Q.Q5_K: 0.09, Q.Q6_K: 0.04}[kind]).all(), kind
    return rows
