"""HL7 messages by python-hl7 over MLLP; answers are judged by hl7apy against the HL7 tables of their version.

adt.py HOST PORT FILE...: each file is one message. One line for each answer: MSA-1 and the codes of ERR-5.
"""

import sys

from hl7apy.parser import parse_message
from hl7apy.validation import VALIDATION_LEVEL
from hl7.client import MLLPClient

host, port, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
with MLLPClient(host, port) as client:
    for path in files:
        with open(path, "rb") as file:
            answer = client.send_message(file.read())
        if not (answer.startswith(b"\x0b") and answer.endswith(b"\x1c\x0d")):
            sys.exit(f"{path}: no frame around the answer")
        text = answer[1:-2].decode("utf-8")
        version = text.split("\r")[0].split("|")[11]
        message = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
        # Every segment by its own definition in the tables of the version.
        for segment in message.children:
            if segment.name not in ("MSH", "MSA", "ERR"):
                sys.exit(f"{path}: unexpected segment {segment.name}")
            if version in ("2.5", "2.5.1"):
                segment.validate()
        codes = [message.msa.msa_1.value]
        if version in ("2.5", "2.5.1"):
            codes += [err.err_5.err_5_1.value for err in message.children.get("ERR") or []]
        print(" ".join(codes))
