"""What a device says of a study, by pynetdicom: each line of standard input is an operation, answered by a line with its status.

completeness.py --port P

    {"begin": "1.2.3.9", "study": "1.2.3"}
    {"end": "1.2.3.9", "state": "COMPLETED", "instances": [["1.2.840...", "1.2.3.1"], ...]}
    {"notify": "1.2.3.8", "study": "1.2.3", "instances": [...]}
"""
import argparse
import json
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityPerformedProcedureStep

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, required=True)
given = arguments.parse_args()


def references(instances):
    items = []
    for sop_class, sop_instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        items.append(item)
    return items


def begin(association, said):
    scheduled = Dataset()
    scheduled.StudyInstanceUID = said["study"]
    step = Dataset()
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PerformedProcedureStepID = "1"
    step.PerformedStationAETitle = "MODALITY"
    step.PerformedProcedureStepStartDate = "20260115"
    step.PerformedProcedureStepStartTime = "101530"
    step.PerformedProcedureStepStatus = said.get("state", "IN PROGRESS")
    step.Modality = "CT"
    step.PerformedSeriesSequence = []
    return association.send_n_create(step, ModalityPerformedProcedureStep, said["begin"])


def end(association, said):
    series = Dataset()
    series.ProtocolName = "Thorax"
    series.SeriesInstanceUID = "1.2.3.4"
    series.ReferencedImageSequence = references(said["instances"])
    step = Dataset()
    step.PerformedProcedureStepStatus = said["state"]
    step.PerformedProcedureStepEndDate = "20260115"
    step.PerformedProcedureStepEndTime = "102530"
    step.PerformedSeriesSequence = [series]
    return association.send_n_set(step, ModalityPerformedProcedureStep, said["end"])


def notify(association, said):
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.4"
    series.ReferencedSOPSequence = references(said["instances"])
    for item in series.ReferencedSOPSequence:
        item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "PACS"
    notice = Dataset()
    notice.ReferencedPerformedProcedureStepSequence = []
    notice.StudyInstanceUID = said["study"]
    notice.ReferencedSeriesSequence = [series]
    return association.send_n_create(notice, InstanceAvailabilityNotification, said["notify"])


entity = AE(ae_title="MODALITY")
entity.add_requested_context(ModalityPerformedProcedureStep)
entity.add_requested_context(InstanceAvailabilityNotification)
association = entity.associate("127.0.0.1", given.port, ae_title="IDRSITE")
if not association.is_established:
    sys.exit("no association")
for line in sys.stdin:
    said = json.loads(line)
    operation = next(operation for name, operation in [("begin", begin), ("end", end), ("notify", notify)] if name in said)
    status, _ = operation(association, said)
    print(json.dumps({"status": f"{status.Status:04X}"}), flush=True)
association.release()
