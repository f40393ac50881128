"""Sends files by pynetdicom: store.py HOST PORT CALLING CALLED FILE...   Prints the status of each; ends with 1 unless all are 0000."""
import sys

from pydicom import dcmread
from pynetdicom import AE

host, port, calling, called, *files = sys.argv[1:]
data_sets = [dcmread(name) for name in files]
entity = AE(ae_title=calling)
for sop_class, syntax in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in data_sets}:
    entity.add_requested_context(sop_class, syntax)
entity.add_requested_context("1.2.840.10008.1.1")
association = entity.associate(host, int(port), ae_title=called)
if not association.is_established:
    sys.exit("no association")
statuses = [association.send_c_echo().Status] + [association.send_c_store(d).Status for d in data_sets]
association.release()
print(" ".join(f"{status:04X}" for status in statuses))
sys.exit(any(statuses))
