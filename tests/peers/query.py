"""C-FIND and C-GET by pynetdicom.

query.py --port P find --level LEVEL [--key KEYWORD=VALUE]... [--cancel-after N]
query.py --port P get  --level LEVEL [--key KEYWORD=VALUE]... --classes UID...

Prints a line of JSON for each answer, and at the end one with the final status and the counts.
"""
import argparse
import hashlib
import json

from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--calling", default="MODALITY")
arguments.add_argument("what", choices=["find", "get"])
arguments.add_argument("--level", required=True)
arguments.add_argument("--key", action="append", default=[])
arguments.add_argument("--classes", nargs="*", default=[])
arguments.add_argument("--cancel-after", type=int, default=0)
given = arguments.parse_args()

identifier = Dataset()
identifier.SpecificCharacterSet = "ISO_IR 192"
identifier.QueryRetrieveLevel = given.level
for key in given.key:
    keyword, _, value = key.partition("=")
    setattr(identifier, keyword, value)

entity = AE(ae_title=given.calling)
got = []


def stored(event):
    data = event.dataset
    got.append(data.SOPInstanceUID)
    print(json.dumps({"got": data.SOPInstanceUID, "sha256": hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()}), flush=True)
    return 0x0000


if given.what == "find":
    model = StudyRootQueryRetrieveInformationModelFind
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", given.port, ae_title="IDRSITE")
else:
    model = StudyRootQueryRetrieveInformationModelGet
    entity.add_requested_context(model)
    for sop_class in given.classes:
        entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
    roles = [build_role(sop_class, scp_role=True) for sop_class in given.classes]
    association = entity.associate(
        "127.0.0.1", given.port, ae_title="IDRSITE", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, stored)]
    )
if not association.is_established and not association.rejected_contexts:
    raise SystemExit("no association")
if all(context.abstract_syntax != model for context in association.accepted_contexts):
    # Without any context it has ended already.
    print(json.dumps({"status": "not accepted"}))
    if association.is_established:
        association.release()
    raise SystemExit(0)
send = association.send_c_find if given.what == "find" else association.send_c_get
answers = 0
last = None
for status, answer in send(identifier, model, msg_id=7):
    last = status
    if status.Status in (0xFF00, 0xFF01) and given.what == "find":
        answers += 1
        print(json.dumps({"answer": {e.keyword: str(e.value) for e in answer}}), flush=True)
        if answers == given.cancel_after:
            association.send_c_cancel(7, query_model=model)
counts = {name: last.get(f"NumberOf{name}Suboperations", None) for name in ("Completed", "Failed", "Warning")}
print(json.dumps({"status": f"{last.Status:04X}", **{k: v for k, v in counts.items() if v is not None}}))
association.release()
