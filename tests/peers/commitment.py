"""Storage commitment by pynetdicom, as the device that asks and the one that is told.

commitment.py ask    --port P --transaction UID [--stay] [--tls CA] [--own CERTIFICATE KEY] [--jwt FILE] [--listed CLASS UID]... [--store FILE]... [--list FILE]...
commitment.py listen --port P --reports N [--tls CERTIFICATE KEY]

`ask` stores files, asks for all of them and for what is listed besides, and prints the status of the answer. With --stay it
waits for the report on the same association, else the process is gone at once, as a device that was switched off.
`listen` says when it listens, takes N reports on associations of their own, and ends. Each report is a line of JSON.
"""
import argparse
import json
import os
import ssl
import sys
import threading
import time

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

arguments = argparse.ArgumentParser()
arguments.add_argument("role", choices=["ask", "listen"])
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--calling", default="MODALITY")
arguments.add_argument("--called", default="IDRSITE")
arguments.add_argument("--transaction")
arguments.add_argument("--stay", action="store_true")
arguments.add_argument("--reports", type=int, default=1)
arguments.add_argument("--tls", nargs="+")
arguments.add_argument("--listed", nargs=2, action="append", default=[])
arguments.add_argument("--store", action="append", default=[])
arguments.add_argument("--list", action="append", default=[])
arguments.add_argument("--own", nargs=2)
arguments.add_argument("--jwt")
given = arguments.parse_args()
done = threading.Semaphore(0)
saying = threading.Lock()


def say(value):
    """One line; a report comes on a thread of its own, and may come beside the answer to the request."""
    with saying:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


def told(event):
    """The report, as a line; answered with success."""
    data = event.event_information
    say({
        "event_type": event.event_type,
        "transaction": data.TransactionUID,
        "committed": [item.ReferencedSOPInstanceUID for item in data.get("ReferencedSOPSequence", [])],
        "failed": {item.ReferencedSOPInstanceUID: f"{item.FailureReason:04X}" for item in data.get("FailedSOPSequence", [])},
        "calling": event.assoc.requestor.ae_title,
        "called": event.assoc.acceptor.ae_title,
    })
    done.release()
    return 0x0000, None


def ask():
    stored = [dcmread(name) for name in given.store]
    entity = AE(ae_title=given.calling)
    for sop_class, syntax in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in stored}:
        entity.add_requested_context(sop_class, syntax)
    entity.add_requested_context(StorageCommitmentPushModel)
    context = None
    if given.tls:
        context = (ssl.create_default_context(cafile=given.tls[0]), "localhost")
        if given.own:
            context[0].load_cert_chain(*given.own)
    identity = []
    if given.jwt:
        identity.append(UserIdentityNegotiation())
        identity[0].user_identity_type = 5
        with open(given.jwt, "rb") as token:
            identity[0].primary_field = token.read().strip()
    # One that is gone does not answer either.
    handler = told if given.stay else lambda event: time.sleep(600)
    association = entity.associate(
        "127.0.0.1", given.port, ae_title=given.called, evt_handlers=[(evt.EVT_N_EVENT_REPORT, handler)], tls_args=context,
        ext_neg=identity,
    )
    if not association.is_established:
        sys.exit("no association")
    for data in stored:
        status = association.send_c_store(data).Status
        if status != 0x0000:
            sys.exit(f"C-STORE {status:04X}")
    request = Dataset()
    request.TransactionUID = given.transaction
    request.ReferencedSOPSequence = []
    references = [(d.SOPClassUID, d.SOPInstanceUID) for d in stored + [dcmread(name) for name in given.list]]
    for sop_class, sop_instance in references + given.listed:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        request.ReferencedSOPSequence.append(item)
    answer, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    say({"action": f"{answer.Status:04X}"})
    if not given.stay:
        os._exit(0)
    if answer.Status == 0x0000 and not done.acquire(timeout=60):
        sys.exit("no report")
    association.release()


def listen():
    entity = AE(ae_title=given.calling)
    # The roles are those of who opens the association: it reports, as SCP.
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    context = None
    if given.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*given.tls)
    server = entity.start_server(
        ("127.0.0.1", given.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, told)], ssl_context=context
    )
    say({"listening": given.port})
    for _ in range(given.reports):
        if not done.acquire(timeout=80):
            sys.exit("no report")
    # The answer leaves before the process does.
    deadline = time.monotonic() + 10
    while any(association.is_alive() for association in server.active_associations) and time.monotonic() < deadline:
        time.sleep(0.05)
    server.shutdown()


{"ask": ask, "listen": listen}[given.role]()
