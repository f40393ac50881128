"""Stores files by dicomweb-client: stow.py URL CA CERTIFICATE KEY STUDY FILE...   Prints how many are referenced and how many failed."""
import sys

from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
import requests

url, anchor, certificate, key, study, *files = sys.argv[1:]
session = requests.Session()
session.trust_env = False
session.verify = anchor
session.cert = (certificate, key)
client = DICOMwebClient(url, session=session)
answer = client.store_instances([dcmread(name) for name in files], study_instance_uid=study or None)
stored = len(answer.get("ReferencedSOPSequence", []))
failed = [f"{item.FailureReason:04X}" for item in answer.get("FailedSOPSequence", [])]
print(stored, *failed)
