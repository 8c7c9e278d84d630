"""Answers questions about OpenTimestamps proofs with the Python implementation, a line each.

Every word after the first is hexadecimal, `-` being nothing. Answers are `yes ...` or `no REASON`; `broken REASON` is an
exception that Python's own code does not mean to raise for bad input.
"""

import hashlib
import sys

import Cryptodome.Hash.RIPEMD160
from bitcoin.core import CBlock
from opentimestamps.bitcoin import make_timestamp_from_block
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
from opentimestamps.core.op import OpRIPEMD160
from opentimestamps.core.serialize import (
    BytesDeserializationContext,
    BytesSerializationContext,
    DeserializationError,
)
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp, cat_sha256, make_merkle_tree

try:
    hashlib.new("ripemd160")
except ValueError:
    # OpenSSL 3.0 to 3.0.6 keep it in a provider that is not loaded.
    OpRIPEMD160._do_op_call = lambda self, msg: Cryptodome.Hash.RIPEMD160.new(bytes(msg)).digest()


def written(thing):
    context = BytesSerializationContext()
    thing.serialize(context)
    return context.getbytes()


def file(data):
    return DetachedTimestampFile.deserialize(BytesDeserializationContext(data))


def timestamp(message, data):
    context = BytesDeserializationContext(data)
    result = Timestamp.deserialize(context, message)
    context.assert_eof()
    return result


def ask_file(data):
    return [written(file(data))]


def ask_timestamp(message, data):
    return [written(timestamp(message, data))]


def ask_merge(message, one, two):
    one = timestamp(message, one)
    one.merge(timestamp(message, two))
    return [written(one)]


def ask_cat(left, right):
    return [cat_sha256(left, right).msg]


def ask_tree(*leaves):
    """The tip, then each leaf's timestamp with the tip attested by block 0."""
    stamps = [Timestamp(leaf) for leaf in leaves]
    tip = make_merkle_tree(stamps)
    tip.attestations.add(BitcoinBlockHeaderAttestation(0))
    return [tip.msg] + [written(stamp) for stamp in stamps]


def ask_block(message, block, height):
    """The message's timestamp in the block."""
    made = make_timestamp_from_block(message, CBlock.deserialize(block), int.from_bytes(height, "big"))
    if made is None:
        raise DeserializationError("not in the block")
    return [written(made)]


def main():
    for line in sys.stdin:
        question, *words = line.split()
        words = [b"" if word == "-" else bytes.fromhex(word) for word in words]
        try:
            answer = ["yes"] + [word.hex() or "-" for word in globals()["ask_" + question](*words)]
        except DeserializationError as error:
            answer = ["no", " ".join(repr(error).split())[:200]]
        except Exception as error:  # pylint: disable=broad-except
            answer = ["broken", " ".join(repr(error).split())[:200]]
        print(" ".join(answer), flush=True)


print("ready", flush=True)
main()
